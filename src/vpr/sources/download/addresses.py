"""URLs of sources: which are understood, and how they are shown."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vpr.config.errors import UserError
from vpr.config.project import main_root

SCHEMES = ("kaggle", "gdrive", "http", "https", "file")


def check_url(where: str, url: str) -> None:
    """Refuse what can't be fetched, before anything is.

    Args:
        where: the key of ``params.yaml`` that errors should name.

    Raises:
        UserError: for another scheme, or a handle or address that is none.
        UserError: if a ``file://`` is not there.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise UserError(f"{where}.url is {url!r}; expected one of {', '.join(f'{s}://' for s in SCHEMES)}")
    if scheme == "kaggle" and not re.fullmatch(r"[\w.-]+/[\w.-]+(/versions/\d+)?/?", rest):
        raise UserError(f"{where}.url is {url!r}; expected kaggle://owner/dataset or kaggle://owner/dataset/versions/3")
    if scheme in ("http", "https") and not urlsplit(url).hostname:
        raise UserError(f"{where}.url is {url!r}; expected {scheme}://server/file")
    if scheme == "gdrive" and not re.fullmatch(r"[\w-]{10,}(/.+)?", rest):
        raise UserError(f"{where}.url is {url!r}; expected gdrive:// and the id in the link, or that and /file.zip")
    if scheme == "file" and not path_on_disk(url).exists():
        raise UserError(f"{where}.url: {path_on_disk(url)} is neither a file nor a folder; correct the path")


def redacted(url: str) -> str:
    """A URL for messages and files of record: no login, no query, no folder of the user's."""
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return f"file://{Path(rest).name}"
    if scheme not in ("http", "https"):
        return url
    parts = urlsplit(url)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    return f"{scheme}://{host}{parts.path}" + (f"?{short_hash(parts.query)}" if parts.query else "")


def path_on_disk(url: str) -> Path:
    """The file or folder that a ``file://`` names; a relative one starts at the project's root."""
    return (main_root() / Path(unquote(url.removeprefix("file://"))).expanduser()).resolve()


def short_hash(text: str) -> str:
    """A short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]
