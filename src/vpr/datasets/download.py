"""Bring a source to the disk: ``kaggle://``, ``gdrive://``, ``http(s)://`` or ``file://``.

Kaggle's login and addresses are kagglehub's, the confirmation pages and folders of Google Drive gdown's. The
transfer is ours, on requests: pooch begins anew after a break, fsspec leaves resuming to its caller, and gdown
splices a file that changed between two runs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http.cookiejar import MozillaCookieJar
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from filelock import FileLock, Timeout
from tqdm import tqdm

from vpr.datasets.checksums import file_sha256
from vpr.datasets.unpack import UnusableArchive, is_archive, require_room, unpack
from vpr.project import data_root, main_root

ATTEMPTS = 6  # without a single new byte; every break after some progress starts the count again
LONGEST_WAIT_S = 60.0
TIMEOUT_S = (15, 60)  # to connect, between bytes
CHUNK_BYTES = 1 << 16  # what a break can cost
BUSY = {408, 425, 429}  # and all from 500
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


def check_url(where: str, url: str) -> None:
    """Refuse what can't be fetched, before anything is.

    Args:
        where: the key of ``params.yaml`` that errors should name.

    Raises:
        ValueError: for another scheme, or a handle or address that is none.
        FileNotFoundError: if a ``file://`` is not there.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise ValueError(f"{where}.url is {url!r}; expected one of {', '.join(f'{s}://' for s in SCHEMES)}")
    if scheme == "kaggle" and not re.fullmatch(r"[\w.-]+/[\w.-]+(/versions/\d+)?/?", rest):
        raise ValueError(
            f"{where}.url is {url!r}; expected kaggle://owner/dataset or kaggle://owner/dataset/versions/3"
        )
    if scheme in ("http", "https") and not urlsplit(url).hostname:
        raise ValueError(f"{where}.url is {url!r}; expected {scheme}://server/file")
    if scheme == "gdrive" and not re.fullmatch(r"[\w-]{10,}(/.+)?", rest):
        raise ValueError(f"{where}.url is {url!r}; expected gdrive:// and the id in the link, or that and /file.zip")
    if scheme == "file" and not _on_disk(url).exists():
        raise FileNotFoundError(f"{where}.url: {_on_disk(url)} is neither a file nor a folder; mend the path")


def fetch(where: str, url: str, sha256: str | Mapping[str, str] | None, known_hashes: Path) -> Fetched:
    """Download and unpack what is not there yet.

    Archives lie in ``<data root>/downloads``, what they hold in ``<data root>/unpacked``; an archive or folder
    named by ``file://`` is used where it lies.

    Args:
        where: the key of ``params.yaml`` that errors should name.
        url: of an archive, or of a folder of archives, each unpacked into a folder of its own.
        sha256: of the archive, or of each by its name; ``None`` where its publisher gives none.
        known_hashes: file of the hashes that earlier downloads had; a later one must equal them.

    Raises:
        OSError: if the source can't be had, with what to do; what was fetched is kept.
        ValueError: if a hash differs or an archive is refused.
    """
    check_url(where, url)
    remote = not url.startswith("file://")
    if remote:
        name = f"{url.partition('://')[0]}-{_short_hash(url)}"
    else:
        path = _on_disk(url)
        if path.is_dir():
            if sha256 is not None:
                raise ValueError(f"{where}.sha256: a folder has no hash to check; set it to null")
            return Fetched(path, {})
        stat = path.stat()
        name = f"{path.name.partition('.')[0]}-{_short_hash(f'{path} {stat.st_size} {stat.st_mtime_ns}')}"
    downloads, unpacked = data_root() / "downloads", data_root() / "unpacked" / name
    downloads.mkdir(parents=True, exist_ok=True)
    unpacked.parent.mkdir(exist_ok=True)
    note = unpacked.with_name(f"{name}.json")
    with _only_one(unpacked.with_name(f"{name}.lock"), url):
        if note.is_file() and unpacked.is_dir():
            known = json.loads(note.read_text(encoding="utf-8"))
            found, num_files = known["sha256"], known["num_files"]
            again = f"delete {unpacked} and {downloads / name} to fetch it again" if remote else "correct the key"
            _compare(where, found, sha256, again)
            gone = num_files - _count_files(unpacked)
            if gone > 0:
                raise FileNotFoundError(
                    f"{where}: {gone:,} of the {num_files:,} files unpacked into {unpacked} are gone; delete that "
                    "folder, and the archive is unpacked again"
                )
            if remote and sha256 is None:
                _compare_with_first(where, url, found, known_hashes, f"delete {unpacked} and {downloads / name}")
                _remember(where, url, found, known_hashes)
            return Fetched(unpacked, found)
        archives = _FETCHERS[url.partition("://")[0]](where, url, downloads / name) if remote else {path.name: path}
        found = {relative: file_sha256(archive) for relative, archive in archives.items()}
        remedy = f"delete {downloads / name} to fetch it again" if remote else f"mend {path}"
        _compare(where, found, sha256, f"{remedy}, or correct the key if it is the right file")
        if remote and sha256 is None:
            _compare_with_first(where, url, found, known_hashes, remedy)
        part = unpacked.with_name(f"{name}-{_short_hash(json.dumps(found, sort_keys=True))}.part")
        for relative, archive in archives.items():
            _unpack_one(archive, part if len(archives) == 1 else part / relative, remote, len(archives) > 1)
        if remote and sha256 is None:
            _remember(where, url, found, known_hashes)
        if unpacked.exists():
            shutil.rmtree(unpacked)  # without its note: what an older version left
        _write_json(note, {"sha256": found, "num_files": _count_files(part)})
        part.replace(unpacked)
    return Fetched(unpacked, found)


def _unpack_one(archive: Path, folder: Path, remote: bool, one_of_several: bool) -> None:
    """Unpack an archive; what is no archive is copied if it came in a folder, and otherwise put aside."""
    if one_of_several and not is_archive(archive):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive, folder)
        return
    try:
        unpack(archive, folder.with_suffix("") if one_of_several else folder)
    except UnusableArchive as error:
        if not remote:
            raise
        archive.replace(archive.with_name(f"{archive.name}.unusable"))
        raise UnusableArchive(f"{error}; it is put aside as {archive.name}.unusable, run again to fetch anew") from None


@contextmanager
def _only_one(path: Path, url: str) -> Iterator[None]:
    """One process at a time; the others wait, and say so."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"{redacted(url)}: another process fetches it, waiting for it to end ({path})", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def redacted(url: str) -> str:
    """A URL for messages and files of record: no login, no query, no folder of the user's."""
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return f"file://{Path(rest).name}"
    if scheme not in ("http", "https"):
        return url
    parts = urlsplit(url)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    return f"{scheme}://{host}{parts.path}" + (f"?{_short_hash(parts.query)}" if parts.query else "")


def _count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _on_disk(url: str) -> Path:
    return (main_root() / Path(unquote(url.removeprefix("file://"))).expanduser()).resolve()


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _write_json(path: Path, content: Any) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)


def _compare(where: str, found: Mapping[str, str], expected: str | Mapping[str, str] | None, remedy: str) -> None:
    if expected is None:
        return
    if isinstance(expected, str):
        if len(found) != 1:
            raise ValueError(f"{where}.sha256: the source has the files {sorted(found)}; give a hash for each name")
        expected = dict.fromkeys(found, expected)
    if set(expected) != set(found):
        raise ValueError(f"{where}.sha256 names {sorted(expected)}, the source has {sorted(found)}")
    for name, sha256 in expected.items():
        if found[name] != sha256.lower():
            raise ValueError(f"{where}.sha256 is {sha256}, but {name} has {found[name]}: it is another file; {remedy}")


def _known(known_hashes: Path) -> dict[str, dict[str, str]]:
    return json.loads(known_hashes.read_text(encoding="utf-8")) if known_hashes.is_file() else {}


def _compare_with_first(where: str, url: str, found: dict[str, str], known_hashes: Path, remedy: str) -> None:
    """Hold a download against the hashes of the first one."""
    for name, sha256 in _known(known_hashes).get(redacted(url), {}).items():
        if found.get(name) != sha256:
            raise ValueError(
                f"{where}.url: {name} has the SHA-256 {found.get(name)}, the first download had {sha256} "
                f"({known_hashes}): the file has changed or arrived damaged; {remedy}, or delete the entry to accept it"
            )


def _remember(where: str, url: str, found: dict[str, str], known_hashes: Path) -> None:
    """Record the hashes of a first download that could be unpacked."""
    known = _known(known_hashes)
    if redacted(url) not in known:
        _write_json(known_hashes, {**known, redacted(url): found})
        print(f"{where}: no published hash; recorded {found} in {known_hashes}")


# One fetcher for each scheme: it leaves finished archives in a folder, and finds them there when run again.


def _fetch_http(where: str, url: str, folder: Path) -> dict[str, Path]:
    name = Path(unquote(urlsplit(url).path)).name or "download"
    return {name: _transfer(where, url, lambda: (url, {}), folder / name)}


def _fetch_kaggle(where: str, url: str, folder: Path) -> dict[str, Path]:
    owner, dataset, *rest = url.partition("://")[2].strip("/").split("/")
    target = folder / f"{dataset}.zip"
    note = folder / "version.json"  # an interrupted download goes on with the version it began with
    version = int(rest[1]) if rest else json.loads(note.read_text())["version"] if note.is_file() else None

    def resolve() -> tuple[str, dict[str, str]]:
        """The address of the archive, signed for some hours."""
        nonlocal version
        from kagglehub.clients import build_kaggle_client
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest, ApiGetDatasetRequest

        try:
            with build_kaggle_client() as client:
                api = client.datasets.dataset_api_client
                if version is None:
                    about = ApiGetDatasetRequest()
                    about.owner_slug, about.dataset_slug = owner, dataset
                    version = api.get_dataset(about).current_version_number
                    folder.mkdir(parents=True, exist_ok=True)
                    _write_json(note, {"version": version})
                wanted = ApiDownloadDatasetRequest()
                wanted.owner_slug, wanted.dataset_slug = owner, dataset
                wanted.dataset_version_number = version
                with api.download_dataset(wanted) as response:
                    return str(response.url), {}
        except requests.HTTPError as error:
            if error.response is not None:
                _raise_for(where, error.response, url, KAGGLE_LOGIN)
            raise _Transient(_reason(error)) from None
        except requests.RequestException as error:
            raise _Transient(_reason(error)) from None

    return {target.name: _transfer(where, url, resolve, target)}


KAGGLE_LOGIN = (
    "a login of Kaggle: set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or save kaggle.json from "
    "https://www.kaggle.com/settings as ~/.kaggle/kaggle.json"
)
DRIVE_LOGIN = "a login of Google: save the browser's cookies for it as ~/.cache/gdown/cookies.txt"
DRIVE_ADVICE = (
    "if it is Drive's limit on downloads of a popular file, which lasts up to a day, download it in a browser and set "
    f"the url to file:// and its path; if the file is not shared with everyone who has the link, it wants {DRIVE_LOGIN}"
)
HTTP_LOGIN = "a login: name server, user and password in ~/.netrc, or set a mirror that needs none"


def _fetch_drive(where: str, url: str, folder: Path) -> dict[str, Path]:
    drive_id, _, wanted = url.partition("://")[2].partition("/")
    note = folder / "contents.json"
    if not note.is_file():
        contents = _insist(where, url, lambda: _drive_contents(where, drive_id, wanted), lambda: 0)
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(note, contents)
    archives = {}
    for relative, file_id in json.loads(note.read_text(encoding="utf-8")).items():
        if relative.startswith("/") or ".." in relative.split("/"):
            raise ValueError(f"{where}.url: refused, the Drive folder holds a path that leaves it: {relative!r}")
        resolve = partial(_drive_address, where, file_id)
        archives[relative] = _transfer(where, url, resolve, folder / "files" / relative)
    return archives


def _drive_contents(where: str, drive_id: str, wanted: str) -> dict[str, str]:
    """Path and id of each file of a Drive folder, or of the one file."""
    import gdown
    from gdown.exceptions import DownloadError

    files: list[Any] = []
    try:
        files = gdown.download_folder(id=drive_id, quiet=True, skip_download=True, timeout=TIMEOUT_S) or []
    except DownloadError:  # no folder: a file
        if wanted:
            raise _Transient("the folder can't be listed", advice=DRIVE_ADVICE) from None
    except requests.RequestException as error:
        raise _Transient(_reason(error)) from None
    contents = {str(file.path): str(file.id) for file in files}
    if wanted:
        if wanted not in contents:
            raise FileNotFoundError(f"{where}.url: the Drive folder holds {sorted(contents)}, and no {wanted!r}")
        return {wanted: contents[wanted]}
    if contents:
        return contents
    try:
        file: Any = gdown.download(id=drive_id, quiet=True, skip_download=True, timeout=TIMEOUT_S)
    except DownloadError as error:
        raise _Transient(str(error), advice=DRIVE_ADVICE) from None
    except requests.RequestException as error:
        raise _Transient(_reason(error)) from None
    return {Path(file.path).name: drive_id}


def _drive_address(where: str, file_id: str) -> tuple[str, dict[str, str]]:
    """The address of a file behind Drive's confirmation page, and the cookies that go with it."""
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
            _raise_for(where, response, f"gdrive://{file_id}", DRIVE_LOGIN)
            if "Content-Disposition" not in response.headers:
                url = get_url_from_gdrive_confirmation(response.text)
    except DownloadError as error:
        raise _Transient(str(error), advice=DRIVE_ADVICE) from None
    except requests.RequestException as error:
        raise _Transient(_reason(error)) from None
    return url, {cookie.name: cookie.value or "" for cookie in session.cookies}


_FETCHERS: dict[str, Callable[[str, str, Path], dict[str, Path]]] = {
    "http": _fetch_http,
    "https": _fetch_http,
    "kaggle": _fetch_kaggle,
    "gdrive": _fetch_drive,
}


def _raise_for(where: str, response: requests.Response, url: str, login: str) -> None:
    """Turn an HTTP error into a transient one, or into a message that says what to do."""
    status = response.status_code
    if status in BUSY or status >= 500:
        raise _Transient(f"HTTP {status} {response.reason}", _retry_after(response))
    if status in (401, 403):
        raise PermissionError(f"{where}.url: {redacted(url)} answers HTTP {status} {response.reason}; it wants {login}")
    if status >= 400 and status != 416:
        raise FileNotFoundError(
            f"{where}.url: {redacted(url)} answers HTTP {status} {response.reason}: the link is dead; set a mirror, or "
            "download the file by hand and set the url to file:// and its path"
        )


def _retry_after(response: requests.Response) -> float | None:
    """Seconds to wait, from a number or a date."""
    text = response.headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    with suppress(TypeError, ValueError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _reason(error: Exception) -> str:
    """What went wrong, without the signatures that addresses carry."""
    return re.sub(r"\?[^\s'\")]*", "?...", f"{type(error).__name__}: {error}")


def _insist(where: str, url: str, attempt: Callable[[], Any], progress: Callable[[], int]) -> Any:
    """Attempt until it works; give up after ``ATTEMPTS`` without progress, with longer and longer waits between."""
    failures, most = 0, progress()
    while True:
        try:
            return attempt()
        except _Transient as trouble:
            now = progress()
            failures = 1 if now > most else failures + 1
            most = max(most, now)
            if failures >= ATTEMPTS:
                raise OSError(
                    f"{where}.url: gave up on {redacted(url)} after {ATTEMPTS} attempts: {trouble}. What was fetched "
                    f"is kept: run again to go on, or {trouble.advice}"
                ) from None
            wait_s = min(LONGEST_WAIT_S, 2.0**failures) * random.uniform(0.5, 1.0)
            wait_s = min(10 * LONGEST_WAIT_S, trouble.wait_s) if trouble.wait_s is not None else wait_s
            print(f"{redacted(url)}: {trouble}; attempt {failures + 1} of {ATTEMPTS} in {wait_s:.0f} s", flush=True)
            time.sleep(wait_s)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(
                f"{data_root()}: the disk is full while downloading {redacted(url)}; make room and run again, it goes "
                "on where it stopped; or set DATA_ROOT to a larger disk"
            ) from None


def _transfer(where: str, url: str, resolve: Callable[[], tuple[str, dict[str, str]]], target: Path) -> Path:
    """Download one file; an earlier part is continued if the server still has the same file and answers ranges.

    Args:
        resolve: the address to fetch ``url`` from, and its cookies; asked for at each attempt, as signed ones expire.
    """
    part = target.with_name(f"{target.name}.part")
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        _insist(
            where,
            url,
            lambda: _attempt(where, url, *resolve(), part),
            lambda: part.stat().st_size if part.is_file() else 0,
        )
        part.replace(target)
        _note_of(part).unlink(missing_ok=True)
    return target


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _attempt(where: str, url: str, address: str, cookies: dict[str, str], part: Path) -> None:
    before: dict[str, Any] = {}
    if part.is_file():
        with suppress(OSError, ValueError):
            before = json.loads(_note_of(part).read_text(encoding="utf-8"))
    # Without a name for its version, a file could change between two requests and be spliced.
    offset = part.stat().st_size if before.get("validator") else 0
    if offset and offset == before["total"]:
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": "vpr (place-recognition pipeline)"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": before["validator"]}
    try:
        with requests.get(address, headers=headers, cookies=cookies, stream=True, timeout=TIMEOUT_S) as response:
            _raise_for(where, response, url, HTTP_LOGIN)
            validator = _validator(response)
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if response.status_code in (206, 416):
                same = response.status_code == 206 and span is not None and int(span[1]) == offset
                total = int(span[2]) if span is not None else None
                if not same or validator != before["validator"] or before["total"] not in (None, total):
                    part.unlink()
                    raise _Transient("the file has changed since the download began; beginning anew")
            else:
                length = response.headers.get("Content-Length", "")
                total, offset = (int(length) if length.isdigit() else None), 0
            if total is not None:
                require_room(part.parent, 2 * total - offset, f"downloading and unpacking {part.stem}")
            with part.open("ab" if offset else "wb") as file:
                _write_json(_note_of(part), {"validator": validator, "total": total})
                with _bar(part.stem, total, offset) as bar:
                    for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                        file.write(chunk)
                        bar.update(len(chunk))
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise ValueError(f"{where}.url: {redacted(url)} is no address: {_reason(error)}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Transient(_reason(error)) from None
    if total is not None and part.stat().st_size != total:
        raise _Transient(f"the connection broke off at {part.stat().st_size:,} of {total:,} bytes")


def _validator(response: requests.Response) -> str | None:
    """What names this version of the file."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _bar(name: str, total: int | None, done: int) -> Any:
    return tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=f"downloading {name}", mininterval=1)
