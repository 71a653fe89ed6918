"""Download ``http://`` and ``https://`` sources."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from vpr.sources.download.transfer import transfer


def fetch_http(where: str, url: str, folder: Path) -> dict[str, Path]:
    """Download a file into a folder."""
    name = Path(unquote(urlsplit(url).path)).name
    name = "download" if name in ("", ".", "..") or "\0" in name else name
    return {name: transfer(where, url, lambda: (url, {}), folder / name)}
