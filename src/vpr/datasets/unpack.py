"""Unpack archives whose content nobody has checked yet: zip, tar, tar.gz (bz2, xz) and tar.zst."""

from __future__ import annotations

import errno
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import zstandard
from tqdm import tqdm

CHUNK_BYTES = 1 << 20
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def unpack(archive: Path, folder: Path) -> None:
    """Write an archive's files under ``folder``; those that an interrupted run has written are kept.

    Raises:
        ValueError: if the file is no archive, or an entry is anything but a file or folder inside it: a path that
            leaves the folder, an absolute path, a link, a device.
        OSError: if the disk is too small or the archive is broken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder)
        else:
            _unpack_tar(archive, folder)
    except (zipfile.BadZipFile, tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise OSError(f"{archive}: the archive is broken: {error}; delete it to fetch it again") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(
                f"{folder}: the disk is full while unpacking {archive.name}; make room and run again, "
                "what is unpacked is kept"
            ) from None
        raise


def is_archive(path: Path) -> bool:
    """Whether a file can be unpacked, by its content."""
    if zipfile.is_zipfile(path) or _is_zstd(path):
        return True
    return tarfile.is_tarfile(path)


def require_room(folder: Path, num_bytes: float, purpose: str) -> None:
    """Refuse to start what the disk has no room for."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise OSError(
            f"{folder}: {purpose} needs {num_bytes / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free; make room, or "
            "set DATA_ROOT to a larger disk"
        )


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        entries = content.infolist()
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refusal(archive, entry.filename, "a link" if stat.S_ISLNK(kind) else "a device")
            if entry.flag_bits & 1:
                raise ValueError(f"{archive}: {entry.filename} is encrypted; unpack it by hand and give the folder")
        todo = [(e, _inside(archive, e.filename)) for e in entries if not e.is_dir()]
        missing = [(e, path) for e, path in todo if not _is_written(folder / path, e.file_size)]
        require_room(folder, sum(e.file_size for e, _ in missing), f"unpacking {archive.name}")
        made: set[Path] = set()
        with _progress(archive, len(todo), len(todo) - len(missing)) as bar:
            for entry, path in missing:
                with content.open(entry) as file:
                    _write(file, folder / path, made)
                bar.update()


def _unpack_tar(archive: Path, folder: Path) -> None:
    made: set[Path] = set()
    with _open_tar(archive) as content, _progress(archive, None, 0) as bar:
        for entry in content:
            if entry.issym() or entry.islnk():
                raise _refusal(archive, entry.name, "a link")
            if not (entry.isreg() or entry.isdir()):
                raise _refusal(archive, entry.name, "a device")
            path = _inside(archive, entry.name)
            if entry.isdir() or _is_written(folder / path, entry.size):
                continue
            file = content.extractfile(entry)
            assert file is not None, "a regular file has content"
            _write(file, folder / path, made)
            bar.update()


@contextmanager
def _open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    if _is_zstd(archive):
        with (
            archive.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as plain,
            tarfile.open(fileobj=plain, mode="r|") as content,
        ):
            yield content
        return
    if not tarfile.is_tarfile(archive):
        with archive.open("rb") as file:
            start = file.read(40)
        raise ValueError(
            f"{archive}: no zip, tar, tar.gz or tar.zst, it begins with {start!r}; a web page instead of the file "
            "usually means that the link wants a login or a confirmation"
        )
    with tarfile.open(archive, mode="r|*") as content:
        yield content


def _is_zstd(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == ZSTD_MAGIC


def _inside(archive: Path, name: str) -> PurePosixPath:
    """An entry's path below the folder.

    Raises:
        ValueError: if it is absolute or leaves the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or re.match(r"[A-Za-z]:", name):
        raise _refusal(archive, name, "an absolute path")
    if ".." in path.parts:
        raise _refusal(archive, name, "a path that leaves the folder")
    return path


def _refusal(archive: Path, name: str, what: str) -> ValueError:
    return ValueError(f"{archive}: refused, it holds {what}: {name!r}; get the archive from its publisher")


def _is_written(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _write(file: IO[bytes], path: Path, made: set[Path]) -> None:
    if path.parent not in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.add(path.parent)
    with path.open("wb") as out:
        shutil.copyfileobj(file, out, CHUNK_BYTES)


def _progress(archive: Path, total: int | None, done: int) -> tqdm:  # type: ignore[type-arg]
    return tqdm(total=total, initial=done, unit="file", desc=f"unpacking {archive.name}", mininterval=1)
