"""Check and display the URLs of sources."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vpr.config.errors import UserError
from vpr.config.project import main_root

SCHEMES = ("kaggle", "gdrive", "http", "https", "rsync", "file")


def check_url(where: str, url: str) -> None:
    """Check the URL of a source.

    Args:
        where: Key in error messages.
        url: URL to check.

    Raises:
        UserError: for an unknown scheme, an invalid URL, or a ``file://`` URL whose path does not exist.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise UserError(f"{where}.url is {url!r}; expected one of {', '.join(f'{s}://' for s in SCHEMES)}")
    if scheme == "kaggle" and not re.fullmatch(r"[\w.-]+/[\w.-]+(/versions/\d+)?/?", rest):
        raise UserError(f"{where}.url is {url!r}; expected kaggle://owner/dataset or kaggle://owner/dataset/versions/3")
    if scheme in ("http", "https", "rsync") and not _has_server(url):
        raise UserError(f"{where}.url is {url!r}; expected {scheme}://server/file")
    if scheme == "gdrive" and not re.fullmatch(r"[\w-]{10,}(/.+)?", rest):
        raise UserError(
            f"{where}.url is {url!r}; expected gdrive://id or gdrive://id/file.zip, with the id from the link"
        )
    if scheme == "file" and not path_on_disk(url).exists():
        raise UserError(f"{where}.url: {path_on_disk(url)} is neither a file nor a folder; correct the path")


def _has_server(url: str) -> bool:
    """Return whether a URL names a server and, if at all, a valid port."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def redacted(url: str) -> str:
    """Return a URL without login, query and local folders, for messages and records."""
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return f"file://{Path(rest).name}"
    if scheme not in ("http", "https", "rsync"):
        return url
    parts = urlsplit(url)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    return f"{scheme}://{host}{parts.path}" + (f"?{short_hash(parts.query)}" if parts.query else "")


def path_on_disk(url: str) -> Path:
    """Return the path of a ``file://`` URL; a relative one starts at the project's root."""
    return (main_root() / Path(unquote(url.removeprefix("file://"))).expanduser()).resolve()


def short_hash(text: str) -> str:
    """Return a short hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]
