"""Fetch each source once: download archives, compare their hashes, and unpack them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from vpr.config.errors import UserError
from vpr.config.project import data_root
from vpr.data.checksums import file_sha256
from vpr.sources.download.addresses import check_url, path_on_disk, redacted, short_hash
from vpr.sources.download.drive import fetch_drive
from vpr.sources.download.http import fetch_http
from vpr.sources.download.kaggle import fetch_kaggle
from vpr.sources.download.rsync import fetch_rsync
from vpr.sources.download.transfer import write_json
from vpr.sources.unpack import UnusableArchive, is_archive, unpack

# Each fetcher downloads archives into a folder, and skips the complete ones when it runs again.
_FETCHERS: dict[str, Callable[[str, str, Path], dict[str, Path]]] = {
    "http": fetch_http,
    "https": fetch_http,
    "kaggle": fetch_kaggle,
    "gdrive": fetch_drive,
}


_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Fetched:
    """A source on the disk.

    Attributes:
        folder: Folder of its files, unpacked or given by the user.
        sha256: SHA-256 of each archive by name; empty if a folder is used in place.
    """

    folder: Path
    sha256: dict[str, str]


def fetch(where: str, url: str, sha256: str | Mapping[str, str] | None, known_hashes: Path) -> Fetched:
    """Download and unpack a source, unless it is on the disk.

    Archives are kept in ``<data root>/downloads`` and their content in ``<data root>/unpacked``. A folder given by
    ``file://`` is used in place.

    Args:
        where: Key in error messages.
        url: URL of an archive, or of a folder of archives, each of which is unpacked into a folder of its own.
        sha256: SHA-256 of the archive, or of each archive by name; ``None`` if its publisher gives none.
        known_hashes: File with the hashes of first downloads, which later downloads must have as well.

    Raises:
        UserError: if the source cannot be fetched, with what to do; complete parts are kept.
        UserError: if a hash differs or an archive is refused.
    """
    check_url(where, url)
    remote = not url.startswith("file://")
    if remote:
        name = f"{url.partition('://')[0]}-{short_hash(url)}"
    else:
        path = path_on_disk(url)
        if path.is_dir():
            if sha256 is not None:
                raise UserError(f"{where}.sha256: a folder has no hash to check; set it to null")
            return Fetched(path, {})
        stat = path.stat()
        name = f"{path.name.partition('.')[0]}-{short_hash(f'{path} {stat.st_size} {stat.st_mtime_ns}')}"
    downloads, unpacked = data_root() / "downloads", data_root() / "unpacked" / name
    downloads.mkdir(parents=True, exist_ok=True)
    unpacked.parent.mkdir(exist_ok=True)
    note = unpacked.with_name(f"{name}.json")
    if url.startswith("rsync://"):
        return _fetch_folder(where, url, sha256, unpacked, note)
    with _only_one(unpacked.with_name(f"{name}.lock"), url):
        if note.is_file() and unpacked.is_dir():
            known = json.loads(note.read_text(encoding="utf-8"))
            found, num_files = known["sha256"], known["num_files"]
            again = f"delete {unpacked} and {downloads / name} to fetch it again" if remote else "correct the key"
            _compare(where, found, sha256, again)
            gone = num_files - _count_files(unpacked)
            if gone > 0:
                raise UserError(
                    f"{where}: {gone:,} of the {num_files:,} files unpacked into {unpacked} are missing; delete that "
                    "folder to unpack the archive again"
                )
            if remote and sha256 is None:
                _compare_with_first(where, url, found, known_hashes, f"delete {unpacked} and {downloads / name}")
                _remember(where, url, found, known_hashes)
            return Fetched(unpacked, found)
        archives = _FETCHERS[url.partition("://")[0]](where, url, downloads / name) if remote else {path.name: path}
        found = {relative: file_sha256(archive) for relative, archive in archives.items()}
        remedy = f"delete {downloads / name} to fetch it again" if remote else f"replace {path}"
        _compare(where, found, sha256, f"{remedy}, or correct the key if it is the right file")
        if remote and sha256 is None:
            _compare_with_first(where, url, found, known_hashes, remedy)
        part = unpacked.with_name(f"{name}-{short_hash(json.dumps(found, sort_keys=True))}.part")
        for relative, archive in archives.items():
            _unpack_one(archive, part if len(archives) == 1 else part / relative, remote, len(archives) > 1)
        _unpack_inner(part)
        if remote and sha256 is None:
            _remember(where, url, found, known_hashes)
        if unpacked.exists():
            shutil.rmtree(unpacked)  # left by an older version, without a note
        write_json(note, {"sha256": found, "num_files": _count_files(part)})
        part.replace(unpacked)
    return Fetched(unpacked, found)


def _fetch_folder(where: str, url: str, sha256: object, folder: Path, note: Path) -> Fetched:
    """Copy a folder by rsync, unless it was copied completely before."""
    if sha256 is not None:
        raise UserError(f"{where}.sha256: a folder has no hash to check; set it to null")
    with _only_one(folder.with_name(f"{folder.name}.lock"), url):
        known = json.loads(note.read_text(encoding="utf-8"))["num_files"] if note.is_file() else None
        if known is None or _count_files(folder) < known:
            fetch_rsync(where, url, folder)
            write_json(note, {"sha256": {}, "num_files": _count_files(folder)})
    return Fetched(folder, {})


def fetch_file(where: str, url: str, sha256: str | None, folder: Path, known_hashes: Path) -> Path:
    """Download one file into a folder, unless it is there, and compare its hash.

    Args:
        where: Key in error messages.
        url: URL of the file.
        sha256: SHA-256 of the file; ``None`` to compare with the first download.
        folder: Folder for the file.
        known_hashes: See ``fetch``.

    Raises:
        UserError: see ``fetch``.
    """
    check_url(where, url)
    if url.startswith("file://"):
        found = {path_on_disk(url).name: path_on_disk(url)}
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder.with_name(f"{folder.name}.lock"), url):
            found = _FETCHERS[url.partition("://")[0]](where, url, folder)
    hashes = {name: file_sha256(path) for name, path in found.items()}
    remedy = f"delete {folder} to fetch it again"
    _compare(where, hashes, sha256, remedy)
    if sha256 is None and not url.startswith("file://"):
        _compare_with_first(where, url, hashes, known_hashes, remedy)
        _remember(where, url, hashes, known_hashes)
    return next(iter(found.values()))


def _unpack_one(archive: Path, folder: Path, remote: bool, one_of_several: bool) -> None:
    """Unpack an archive. Another file is copied if it is one of several, and otherwise renamed."""
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
        raise UnusableArchive(
            f"{error}; it was renamed to {archive.name}.unusable, run again to download it again"
        ) from None


def _unpack_inner(folder: Path) -> None:
    """Unpack archives directly in an unpacked folder, such as AmsterTime's, into folders of their names."""
    for archive in sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in _ARCHIVES):
        if is_archive(archive):
            unpack(archive, archive.with_suffix(""))
            archive.unlink()


@contextmanager
def _only_one(path: Path, url: str) -> Iterator[None]:
    """Let one process at a time run the block; the others print a message and wait."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"{redacted(url)}: waiting for another process that fetches it ({path})", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _compare(where: str, found: Mapping[str, str], expected: str | Mapping[str, str] | None, remedy: str) -> None:
    if expected is None:
        return
    if isinstance(expected, str):
        if len(found) != 1:
            raise UserError(f"{where}.sha256: the source has the files {sorted(found)}; give a hash for each name")
        expected = dict.fromkeys(found, expected)
    if set(expected) != set(found):
        raise UserError(f"{where}.sha256 names {sorted(expected)}, the source has {sorted(found)}")
    for name, sha256 in expected.items():
        if found[name] != sha256.lower():
            raise UserError(
                f"{where}.sha256 is {sha256}, but {name} has {found[name]}, so it is another file; {remedy}"
            )


def _known(known_hashes: Path) -> dict[str, dict[str, str]]:
    return json.loads(known_hashes.read_text(encoding="utf-8")) if known_hashes.is_file() else {}


def _compare_with_first(where: str, url: str, found: dict[str, str], known_hashes: Path, remedy: str) -> None:
    """Compare a download with the hashes of the first one."""
    for name, sha256 in _known(known_hashes).get(redacted(url), {}).items():
        if found.get(name) != sha256:
            raise UserError(
                f"{where}.url: {name} has the SHA-256 {found.get(name)}, but the first download had {sha256} "
                f"({known_hashes}): the file was changed by its publisher, or damaged; {remedy}, or "
                "delete the entry to accept it"
            )


def _remember(where: str, url: str, found: dict[str, str], known_hashes: Path) -> None:
    """Record the hashes of a first download after it was unpacked."""
    known = _known(known_hashes)
    if redacted(url) not in known:
        write_json(known_hashes, {**known, redacted(url): found})
        print(f"{where}: no published hash; recorded {found} in {known_hashes}")
