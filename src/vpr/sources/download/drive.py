"""Download ``gdrive://`` sources with gdown's folder listings and confirmation pages."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from http.cookiejar import MozillaCookieJar
from pathlib import Path
from typing import Any

import requests
from requests.cookies import RequestsCookieJar

from vpr.config.errors import UserError
from vpr.sources.download.transfer import TIMEOUT_S, Transient, raise_for, reason_of, transfer, with_retries, write_json

DRIVE_LOGIN = "a Google login: save the browser's cookies for it as ~/.cache/gdown/cookies.txt"
DRIVE_ADVICE = (
    "if Drive limits the downloads of a popular file, which lasts up to a day, download it in a browser and set "
    "the url to file:// and its path; if the file is not shared with everyone who has the link, it requires "
    f"{DRIVE_LOGIN}"
)


def fetch_drive(where: str, url: str, folder: Path) -> dict[str, Path]:
    """Download a file, or all files of a folder."""
    drive_id, _, wanted = url.partition("://")[2].partition("/")
    note = folder / "contents.json"
    if not note.is_file():
        contents = with_retries(where, url, lambda: _drive_contents(where, drive_id, wanted), lambda: 0)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(note, contents)
    archives = {}
    for relative, file_id in json.loads(note.read_text(encoding="utf-8")).items():
        if relative.startswith("/") or ".." in relative.split("/"):
            raise UserError(f"{where}.url: refused, because the Drive folder holds a path that leaves it: {relative!r}")
        resolve = partial(_drive_address, where, file_id)
        archives[relative] = transfer(where, url, resolve, folder / "files" / relative)
    return archives


def _drive_contents(where: str, drive_id: str, wanted: str) -> dict[str, str]:
    """Return the id of each file of a Drive folder, or of a single file, by path."""
    import gdown
    from gdown.exceptions import DownloadError

    files: list[Any] = []
    try:
        files = gdown.download_folder(id=drive_id, quiet=True, skip_download=True, timeout=TIMEOUT_S) or []
    except DownloadError:  # it is a file, not a folder
        if wanted:
            raise Transient("the folder cannot be listed", advice=DRIVE_ADVICE) from None
    except requests.RequestException as error:
        raise Transient(reason_of(error)) from None
    contents = {str(file.path): str(file.id) for file in files}
    if wanted:
        if wanted not in contents:
            raise UserError(f"{where}.url: the Drive folder holds {sorted(contents)}, but not {wanted!r}")
        return {wanted: contents[wanted]}
    if contents:
        return contents
    try:
        file: Any = gdown.download(id=drive_id, quiet=True, skip_download=True, timeout=TIMEOUT_S)
    except DownloadError as error:
        raise Transient(str(error), advice=DRIVE_ADVICE) from None
    except requests.RequestException as error:
        raise Transient(reason_of(error)) from None
    return {Path(file.path).name: drive_id}


def _drive_address(where: str, file_id: str) -> tuple[str, RequestsCookieJar]:
    """Return the address behind Drive's confirmation page, and its cookies, which keep their domains."""
    from gdown.download import get_url_from_gdrive_confirmation
    from gdown.exceptions import DownloadError

    session = requests.Session()
    cookies = MozillaCookieJar(Path("~/.cache/gdown/cookies.txt").expanduser())
    with suppress(OSError):
        cookies.load(ignore_discard=True, ignore_expires=True)
    session.cookies.update(cookies)
    url = f"https://drive.google.com/uc?id={file_id}"
    try:
        with session.get(url, stream=True, timeout=TIMEOUT_S) as response:
            raise_for(where, response, f"gdrive://{file_id}", DRIVE_LOGIN)
            if "Content-Disposition" not in response.headers:
                url = get_url_from_gdrive_confirmation(response.text)
    except DownloadError as error:
        raise Transient(str(error), advice=DRIVE_ADVICE) from None
    except requests.RequestException as error:
        raise Transient(reason_of(error)) from None
    return url, session.cookies
