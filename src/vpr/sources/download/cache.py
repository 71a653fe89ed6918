"""Fetch each source once: archives are downloaded, held against their hashes, and unpacked."""

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
from vpr.sources.download.transfer import write_json
from vpr.sources.unpack import UnusableArchive, is_archive, unpack

# One fetcher for each scheme: it leaves finished archives in a folder, and finds them there when run again.
_FETCHERS: dict[str, Callable[[str, str, Path], dict[str, Path]]] = {
    "http": fetch_http,
    "https": fetch_http,
    "kaggle": fetch_kaggle,
    "gdrive": fetch_drive,
}


@dataclass(frozen=True)
class Fetched:
    """A source on the disk.

    Attributes:
        folder: of its files: unpacked, or where the user has it.
        sha256: of each archive by its name; empty where a folder is used as it lies.
    """

    folder: Path
    sha256: dict[str, str]


def fetch(where: str, url: str, sha256: str | Mapping[str, str] | None, known_hashes: Path) -> Fetched:
    """Download and unpack what is not there yet.

    Archives are in ``<data root>/downloads``, what they hold in ``<data root>/unpacked``; an archive or folder
    named by ``file://`` is used where it lies.

    Args:
        where: the key of ``params.yaml`` that errors should name.
        url: of an archive, or of a folder of archives, each unpacked into a folder of its own.
        sha256: of the archive, or of each by its name; ``None`` where its publisher gives none.
        known_hashes: file of the hashes that earlier downloads had; a later one must equal them.

    Raises:
        UserError: if the source can't be fetched, with what to do; what was fetched is kept.
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
    with _only_one(unpacked.with_name(f"{name}.lock"), url):
        if note.is_file() and unpacked.is_dir():
            known = json.loads(note.read_text(encoding="utf-8"))
            found, num_files = known["sha256"], known["num_files"]
            again = f"delete {unpacked} and {downloads / name} to fetch it again" if remote else "correct the key"
            _compare(where, found, sha256, again)
            gone = num_files - _count_files(unpacked)
            if gone > 0:
                raise UserError(
                    f"{where}: {gone:,} of the {num_files:,} files unpacked into {unpacked} are gone; delete that "
                    "folder to unpack the archive again"
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
        part = unpacked.with_name(f"{name}-{short_hash(json.dumps(found, sort_keys=True))}.part")
        for relative, archive in archives.items():
            _unpack_one(archive, part if len(archives) == 1 else part / relative, remote, len(archives) > 1)
        if remote and sha256 is None:
            _remember(where, url, found, known_hashes)
        if unpacked.exists():
            shutil.rmtree(unpacked)  # without its note: what an older version left
        write_json(note, {"sha256": found, "num_files": _count_files(part)})
        part.replace(unpacked)
    return Fetched(unpacked, found)


def fetch_file(where: str, url: str, sha256: str | None, folder: Path, known_hashes: Path) -> Path:
    """Download one file into a folder, if it is not there yet, and hold it against its hash.

    Args:
        where: what errors should name.
        sha256: ``None`` where its publisher gives none; then it has to equal that of the first download.
        known_hashes: see ``fetch``.

    Raises:
        UserError: as ``fetch``.
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
    """Unpack an archive; what is not an archive is copied if it came in a folder, and otherwise put aside."""
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
            f"{error}; it is put aside as {archive.name}.unusable, run again to fetch it again"
        ) from None


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
            raise UserError(f"{where}.sha256 is {sha256}, but {name} has {found[name]}: it is another file; {remedy}")


def _known(known_hashes: Path) -> dict[str, dict[str, str]]:
    return json.loads(known_hashes.read_text(encoding="utf-8")) if known_hashes.is_file() else {}


def _compare_with_first(where: str, url: str, found: dict[str, str], known_hashes: Path, remedy: str) -> None:
    """Hold a download against the hashes of the first one."""
    for name, sha256 in _known(known_hashes).get(redacted(url), {}).items():
        if found.get(name) != sha256:
            raise UserError(
                f"{where}.url: {name} has the SHA-256 {found.get(name)}, but the first download had {sha256} "
                f"({known_hashes}): the file changed at its source or was damaged on the way; {remedy}, or "
                "delete the entry to accept it"
            )


def _remember(where: str, url: str, found: dict[str, str], known_hashes: Path) -> None:
    """Record the hashes of a first download that could be unpacked."""
    known = _known(known_hashes)
    if redacted(url) not in known:
        write_json(known_hashes, {**known, redacted(url): found})
        print(f"{where}: no published hash; recorded {found} in {known_hashes}")
