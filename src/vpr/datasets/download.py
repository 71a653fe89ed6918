"""Bring a source to the disk: ``kaggle://``, ``gdrive://``, ``http(s)://`` or ``file://``.

Google Drive is spoken to through gdown, which knows its confirmation pages and folders; Kaggle through
kagglehub, which knows its logins. The transfer over HTTP is ours, on requests: pooch begins anew after a
break, fsspec leaves resuming to its caller, and gdown splices a file that changed between two runs.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import random
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from filelock import FileLock
from tqdm import tqdm

from vpr.datasets.checksums import file_sha256
from vpr.datasets.unpack import is_archive, require_room, unpack
from vpr.project import data_root, main_root

ATTEMPTS = 6  # without a single new byte; every break after some progress starts the count again
LONGEST_WAIT_S = 60.0
TIMEOUT_S = (15, 60)  # to connect, between bytes
CHUNK_BYTES = 1 << 16  # what a break can cost
BUSY = {408, 425, 429, 500, 502, 503, 504}
SCHEMES = ("kaggle", "gdrive", "http", "https", "file")


@dataclass(frozen=True)
class Fetched:
    """A source on the disk.

    Attributes:
        folder: of its files: unpacked, or where the user has it.
        sha256: of each archive by its name; empty where a folder is used as it lies.
    """

    folder: Path
    sha256: dict[str, str]


class _Transient(Exception):
    """What may be gone at the next attempt.

    Attributes:
        wait_s: what the server asks to wait.
        advice: what to do when it doesn't go.
    """

    def __init__(self, reason: str, wait_s: float | None = None, advice: str = "set a mirror") -> None:
        super().__init__(" ".join(reason.split()))
        self.wait_s, self.advice = wait_s, advice


def fetch(where: str, url: str, sha256: str | Mapping[str, str] | None, known_hashes: Path) -> Fetched:
    """Download and unpack what is not there yet.

    Archives lie in ``<data root>/downloads``, what they hold in ``<data root>/unpacked``; an archive or folder
    named by ``file://`` is used where it lies.

    Args:
        where: the key of ``params.yaml`` that errors should name.
        url: of an archive, or of a folder of archives.
        sha256: of the archive, or of each by its name; ``None`` where its publisher gives none.
        known_hashes: file of the hashes that earlier downloads had; a later one must equal them.

    Raises:
        OSError: if the source can't be had, with what to do; what was fetched is kept.
        ValueError: if a hash differs or an archive is refused.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise ValueError(f"{where}.url is {url!r}; expected one of {', '.join(f'{s}://' for s in SCHEMES)}")
    if scheme == "file":
        path = (main_root() / Path(unquote(rest)).expanduser()).resolve()
        if path.is_dir():
            return Fetched(path, {})
        if not path.is_file():
            raise FileNotFoundError(f"{where}.url: {path} is neither a file nor a folder; mend the path")
        stat = path.stat()
        name = f"{path.name.partition('.')[0]}-{_short_hash(f'{path} {stat.st_size} {stat.st_mtime_ns}')}"
    else:
        name = f"{scheme}-{_short_hash(url)}"
    downloads, unpacked = data_root() / "downloads", data_root() / "unpacked" / name
    downloads.mkdir(parents=True, exist_ok=True)
    with FileLock(downloads / f"{name}.lock"):
        note = downloads / f"{name}.json"
        if unpacked.is_dir() and note.is_file():
            found = json.loads(note.read_text(encoding="utf-8"))
            _compare(where, found, sha256, "what was unpacked", f"delete {unpacked} and {downloads / name}")
            return Fetched(unpacked, found)
        if scheme == "file":
            archives = [path]
        else:
            (downloads / name).mkdir(exist_ok=True)
            archives = _FETCHERS[scheme](where, url, downloads / name)
        found = {archive.name: file_sha256(archive) for archive in archives}
        remedy = f"delete {downloads / name} to fetch it again"
        _compare(where, found, sha256, "the file", f"{remedy}, or correct the key if the publisher changed the file")
        if scheme != "file" and sha256 is None:
            _remember(where, url, found, known_hashes, remedy)
        part = unpacked.with_name(f"{name}.part")
        for archive in archives:
            if len(archives) == 1 or is_archive(archive):
                unpack(archive, part)
            else:
                part.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(archive, part / archive.name)
        _write_json(note, found)
        part.replace(unpacked)
    return Fetched(unpacked, found)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _write_json(path: Path, content: Any) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)


def _compare(
    where: str, found: Mapping[str, str], expected: str | Mapping[str, str] | None, what: str, remedy: str
) -> None:
    if expected is None:
        return
    if isinstance(expected, str):
        if len(found) != 1:
            raise ValueError(f"{where}.sha256: the source has the files {sorted(found)}; give a hash for each name")
        expected = dict.fromkeys(found, expected)
    for name, sha256 in expected.items():
        if name not in found:
            raise ValueError(f"{where}.sha256 names {name!r}, the source has {sorted(found)}")
        if found[name] != sha256.lower():
            raise ValueError(f"{where}.sha256 is {sha256}, but {name} has {found[name]}: {what} is another; {remedy}")


def _remember(where: str, url: str, found: dict[str, str], known_hashes: Path, remedy: str) -> None:
    """Hold a download against the hashes of the first one, or record them."""
    known = json.loads(known_hashes.read_text(encoding="utf-8")) if known_hashes.is_file() else {}
    for name, sha256 in known.get(url, {}).items():
        if found.get(name) != sha256:
            raise ValueError(
                f"{where}.url: {name} has the SHA-256 {found.get(name)}, the first download had {sha256} "
                f"({known_hashes}): the file has changed or arrived damaged; {remedy}, or delete the entry to accept it"
            )
    if url not in known:
        _write_json(known_hashes, {**known, url: found})
        print(f"{where}: no published hash; recorded {found} in {known_hashes}")


# One fetcher for each scheme: it leaves finished archives in a folder, and finds them there when run again.


def _fetch_http(where: str, url: str, folder: Path) -> list[Path]:
    name = Path(unquote(urlsplit(url).path)).name or "download"
    return [_transfer(where, url, lambda: url, folder / name)]


def _fetch_kaggle(where: str, url: str, folder: Path) -> list[Path]:
    handle = url.partition("://")[2].strip("/")
    parts = handle.split("/")
    if len(parts) not in (2, 4) or (len(parts) == 4 and (parts[2] != "versions" or not parts[3].isdigit())):
        raise ValueError(
            f"{where}.url is {url!r}; expected kaggle://owner/dataset or kaggle://owner/dataset/versions/3"
        )
    target = folder / f"{parts[1]}.zip"
    if target.is_file():
        return [target]
    note = folder / "version.json"  # an interrupted download goes on with the version it began with
    version = int(parts[3]) if len(parts) == 4 else json.loads(note.read_text())["version"] if note.is_file() else None

    def resolve() -> str:
        """The address of the archive, signed for some hours."""
        nonlocal version
        from kagglehub.clients import build_kaggle_client
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest, ApiGetDatasetRequest

        try:
            with build_kaggle_client() as client:
                api = client.datasets.dataset_api_client
                if version is None:
                    about = ApiGetDatasetRequest()
                    about.owner_slug, about.dataset_slug = parts[:2]
                    version = api.get_dataset(about).current_version_number
                    _write_json(note, {"version": version})
                wanted = ApiDownloadDatasetRequest()
                wanted.owner_slug, wanted.dataset_slug = parts[:2]
                wanted.dataset_version_number = version
                with api.download_dataset(wanted) as response:
                    return str(response.url)
        except requests.HTTPError as error:
            _raise_for(where, error.response, url, "a login of Kaggle: " + KAGGLE_LOGIN)
            raise
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _Transient(f"{type(error).__name__}: {error}") from None

    return [_transfer(where, url, resolve, target)]


KAGGLE_LOGIN = (
    "set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or save kaggle.json from https://www.kaggle.com/settings "
    "as ~/.kaggle/kaggle.json"
)
DRIVE_LOGIN = "a login of Google: save the browser's cookies for it as ~/.cache/gdown/cookies.txt"
DRIVE_ADVICE = (
    "if it is Drive's limit on downloads of a popular file, which lasts up to a day, download it in a browser and set "
    f"the url to file:// and its path; if the file is not shared with everyone who has the link, it wants {DRIVE_LOGIN}"
)


def _fetch_drive(where: str, url: str, folder: Path) -> list[Path]:
    drive_id, _, wanted = url.partition("://")[2].partition("/")
    note = folder / "contents.json"
    if not note.is_file():
        contents = _insist(where, url, lambda: _drive_contents(where, drive_id, wanted), lambda: 0)
        _write_json(note, contents)
    archives = []
    for name, file_id in json.loads(note.read_text(encoding="utf-8")).items():
        target = folder / name
        if not target.is_file():
            _insist(where, url, partial(_drive_file, where, file_id, target), partial(_part_bytes, target))
        archives.append(target)
    return archives


def _parts(target: Path) -> list[Path]:
    """What is there of an unfinished file; gdown adds random letters to its name."""
    return list(target.parent.glob(f"{glob.escape(target.name)}*.part"))


def _part_bytes(target: Path) -> int:
    return sum(part.stat().st_size for part in _parts(target))


def _drive_contents(where: str, drive_id: str, wanted: str) -> dict[str, str]:
    """Name and id of each file of a Drive folder, or of the one file."""
    import gdown
    from gdown.exceptions import DownloadError

    try:
        files: list[Any] = gdown.download_folder(id=drive_id, quiet=True, skip_download=True, timeout=TIMEOUT_S) or []
    except DownloadError:
        if wanted:
            raise _Transient("the folder can't be listed", advice=DRIVE_ADVICE) from None
        files = []  # no folder: a file
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Transient(f"{type(error).__name__}: {error}") from None
    contents = {file.path: file.id for file in files}
    if wanted:
        if wanted not in contents:
            raise FileNotFoundError(f"{where}.url: the Drive folder holds {sorted(contents)}, and no {wanted!r}")
        contents = {wanted: contents[wanted]}
    if not contents:
        try:
            file: Any = gdown.download(id=drive_id, quiet=True, skip_download=True, timeout=TIMEOUT_S)
        except DownloadError as error:
            raise _Transient(str(error), advice=DRIVE_ADVICE) from None
        except requests.HTTPError as error:
            _raise_for(where, error.response, f"gdrive://{drive_id}", DRIVE_LOGIN)
            raise
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _Transient(f"{type(error).__name__}: {error}") from None
        contents = {file.path: drive_id}
    return {Path(name).name: file_id for name, file_id in contents.items()}


def _drive_file(where: str, file_id: str, target: Path) -> None:
    import gdown
    from gdown.exceptions import DownloadError, FileURLRetrievalError

    with _bar(target.name) as bar:

        def progress(done: int, total: int | None) -> None:
            if bar.total is None:
                bar.total, bar.initial = total or 0, done
                if total:
                    require_room(target.parent, 2 * total - done, f"downloading and unpacking {target.name}")
            bar.update(done - bar.n)

        try:
            gdown.download(
                id=file_id, output=str(target), quiet=True, resume=True, timeout=TIMEOUT_S, progress=progress
            )
        except FileURLRetrievalError as error:
            raise _Transient(str(error), advice=DRIVE_ADVICE) from None
        except DownloadError as error:
            if "byte range" in str(error):
                for part in _parts(target):
                    part.unlink()
            raise _Transient(str(error), advice=DRIVE_ADVICE) from None
        except requests.HTTPError as error:
            _raise_for(where, error.response, f"gdrive://{file_id}", DRIVE_LOGIN)
            raise
        except requests.RequestException as error:
            raise _Transient(f"{type(error).__name__}: {error}") from None


_FETCHERS: dict[str, Callable[[str, str, Path], list[Path]]] = {
    "http": _fetch_http,
    "https": _fetch_http,
    "kaggle": _fetch_kaggle,
    "gdrive": _fetch_drive,
}


def _raise_for(where: str, response: requests.Response, url: str, login: str) -> None:
    """Turn an HTTP error into a transient one, or into a message that says what to do."""
    status = response.status_code
    if status in BUSY:
        raise _Transient(f"HTTP {status} {response.reason}", _retry_after(response))
    if status in (401, 403):
        raise PermissionError(f"{where}.url: {url} answers HTTP {status} {response.reason}; it wants {login}")
    if status >= 400:
        raise FileNotFoundError(
            f"{where}.url: {url} answers HTTP {status} {response.reason}: the link is dead; set a mirror, or download "
            "the file by hand and set the url to file:// and its path"
        )


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _insist(where: str, url: str, attempt: Callable[[], Any], progress: Callable[[], int]) -> Any:
    """Attempt until it works; give up after ``ATTEMPTS`` without progress, with longer and longer waits between."""
    failures, before = 0, progress()
    while True:
        try:
            return attempt()
        except _Transient as trouble:
            now = progress()
            failures = 1 if now > before else failures + 1
            before = now
            if failures >= ATTEMPTS:
                raise OSError(
                    f"{where}.url: gave up on {url} after {ATTEMPTS} attempts: {trouble}. What was fetched is kept: "
                    f"run again to go on, or {trouble.advice}"
                ) from None
            wait_s = min(LONGEST_WAIT_S, 2.0**failures) * random.uniform(0.5, 1.0)
            wait_s = min(10 * LONGEST_WAIT_S, trouble.wait_s) if trouble.wait_s is not None else wait_s
            print(f"{url}: {trouble}; attempt {failures + 1} of {ATTEMPTS} in {wait_s:.0f} s", flush=True)
            time.sleep(wait_s)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(
                f"{data_root()}: the disk is full while downloading {url}; make room and run again, it goes on where "
                "it stopped; or set DATA_ROOT to a larger disk"
            ) from None


def _transfer(where: str, url: str, resolve: Callable[[], str], target: Path) -> Path:
    """Download one file; an earlier part is continued if the server still has the same file and answers ranges.

    Args:
        resolve: the address to fetch ``url`` from, asked for at each attempt, as signed ones expire.
    """
    part = target.with_name(f"{target.name}.part")
    if not target.is_file():
        _insist(where, url, lambda: _attempt(where, resolve(), part), lambda: _part_bytes(target))
        part.replace(target)
        part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    return target


def _attempt(where: str, url: str, part: Path) -> None:
    note = part.with_name(f"{part.name}.json")
    before: dict[str, Any] = {}
    if part.is_file():
        with suppress(OSError, ValueError):
            before = json.loads(note.read_text(encoding="utf-8"))
    offset = part.stat().st_size if before else 0
    if offset and offset == before["total"]:
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": "vpr (place-recognition pipeline)"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if before["validator"]:
            headers["If-Range"] = before["validator"]
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if response.status_code == 416:
                part.unlink()
                raise _Transient("the part that is here is longer than the file; beginning anew")
            _raise_for(where, response, url.partition("?")[0], "a login; set a mirror that needs none")
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            goes_on = response.status_code == 206 and span is not None and int(span[1]) == offset
            if response.status_code == 206 and not goes_on:
                raise _Transient(f"the server sent another range, {response.headers.get('Content-Range')}")
            length = response.headers.get("Content-Length", "")
            if goes_on and span is not None:
                total = int(span[2]) if span[2].isdigit() else None
            else:
                total, offset = (int(length) if length.isdigit() else None), 0
            if goes_on and before["total"] is not None and total != before["total"]:
                part.unlink()
                raise _Transient("the file has changed since the download began; beginning anew")
            if total is not None:
                require_room(part.parent, 2 * total - offset, f"downloading and unpacking {part.stem}")
            with part.open("ab" if goes_on else "wb") as file:
                _write_json(note, {"validator": _validator(response), "total": total})
                with _bar(part.stem, total, offset) as bar:
                    for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                        file.write(chunk)
                        bar.update(len(chunk))
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Transient(f"{type(error).__name__}: {error}") from None
    if total is not None and part.stat().st_size != total:
        raise _Transient(f"the connection broke off at {part.stat().st_size:,} of {total:,} bytes")


def _validator(response: requests.Response) -> str | None:
    """What names this version of the file."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _bar(name: str, total: int | None = None, done: int = 0) -> Any:
    return tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=f"downloading {name}", mininterval=1)
