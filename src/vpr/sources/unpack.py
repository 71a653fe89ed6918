"""Unpack untrusted archives: zip, tar, tar.gz (bz2, xz) and tar.zst."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard
from tqdm import tqdm

from vpr.config.errors import UserError
from vpr.config.progress import progress

CHUNK_BYTES = 1 << 20
MANY_FILES, LEAST_BYTES_OF_A_FILE = 10_000, 50  # compressed; beyond this many files
MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES = 100, 255, 2000  # nested folders, bytes of a name, bytes of a path
MAX_HEADER_BYTES = 1 << 20  # extended headers, such as long names, which tarfile reads into memory
# A tar does not say beforehand how large it is, so this much of the disk, up to a limit, stays free.
RESERVED_SHARE, RESERVED_BYTES = 0.02, 1_000_000_000
_MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
}
_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zstandard.ZstdError, gzip.BadGzipFile, lzma.LZMAError, zlib.error,
    EOFError, ValueError, LookupError, NotImplementedError, struct.error,
)  # fmt: skip
_END = bytes(1024)  # a tar ends with two blocks of zeros


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into ``folder``; files of an interrupted run are kept.

    Raises:
        UnusableArchive: if the file is not an archive, or is damaged.
        UserError: if an entry is a link or a device, or would be outside ``folder``, or if the disk is too small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if _kind(archive) == "zip":
            _unpack_zip(archive, folder)
        else:
            _unpack_tar(archive, folder)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(
            f"{archive}: refused, because it holds a file and a folder of the same name: {error.filename}"
        ) from None
    except _BROKEN as error:
        raise UnusableArchive(f"{archive}: the archive is damaged: {error}") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"{folder}: the disk is full while unpacking {archive.name}; make room and run again, "
                "unpacked files are kept"
            ) from None
        if error.errno in (
            None,
            errno.EINVAL,
        ):  # raised by a decompressor, or for a position before the start of the file
            raise UnusableArchive(f"{archive}: the archive is damaged: {error}") from None
        raise


class UnusableArchive(UserError):
    """A file that is not an archive or is damaged; downloading it again may help."""


def is_archive(path: Path) -> bool:
    """Return true if the content of a file is an archive."""
    return _kind(path) is not None


def _kind(path: Path) -> str | None:
    """Return the kind of archive from its first bytes."""
    with path.open("rb") as file:
        start = file.read(262)
    if start[257:262] == b"ustar":
        return "tar"
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    if start[:1] in b"PQRSTUVWXYZ[\\]^_" and start[1:4] == b"\x2a\x4d\x18":
        return "zst"  # a skippable frame before the first frame
    return "zip" if zipfile.is_zipfile(path) else "tar" if tarfile.is_tarfile(path) else None


def reserved_bytes(folder: Path) -> float:
    """Return the disk space to leave free if the size of an archive's content is unknown."""
    return min(RESERVED_SHARE * shutil.disk_usage(folder).total, RESERVED_BYTES)


def require_room(folder: Path, num_bytes: float, purpose: str) -> None:
    """Refuse to start if the disk has too little space."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise UserError(
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
                raise UserError(f"{archive}: {entry.filename} is encrypted; unpack it by hand and give the folder")
        todo = [(e, _inside(archive, e.filename)) for e in entries if e.filename and not e.is_dir()]
        todo = [(e, path) for e, path in todo if path.parts]
        _require_few(archive, len(todo))
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
    number = 0
    with _open_tar(archive) as content, _progress(archive, None, 0) as bar:
        for entry in content:
            if entry.issym() or entry.islnk():
                raise _refusal(archive, entry.name, "a link")
            if not (entry.isreg() or entry.isdir()):
                raise _refusal(archive, entry.name, "a device")
            path = _inside(archive, entry.name)
            if entry.isdir() or not path.parts or _is_written(folder / path, entry.size):
                continue
            require_room(folder, entry.size + reserved_bytes(folder), f"unpacking {entry.name} of {archive.name}")
            file = content.extractfile(entry)
            assert file is not None, "a regular file has content"
            _write(file, folder / path, made)
            bar.update()
            number += 1
            _require_few(archive, number)


def _require_few(archive: Path, number: int) -> None:
    """Refuse archives with far more files than their size suggests, which fill a disk with empty files."""
    most = MANY_FILES + archive.stat().st_size // LEAST_BYTES_OF_A_FILE
    if number > most:
        raise UserError(
            f"{archive}: refused, because it holds more than {most:,} files, which is too many for its size; get the "
            "archive from its publisher"
        )


class _Entry(tarfile.TarInfo):
    """A tar entry that refuses oversized extended headers."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        kinds = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
        if self.type in (*kinds, tarfile.SOLARIS_XHDTYPE) and not 0 <= self.size <= MAX_HEADER_BYTES:
            raise ValueError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


class _Stream(io.RawIOBase):
    """A stream that remembers its end, so that a tar that is cut off between two files is noticed."""

    def __init__(self, plain: IO[bytes]) -> None:
        super().__init__()
        self.plain, self.tail = plain, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.plain.read(size)
        self.tail = (self.tail + data[-len(_END) :])[-len(_END) :]
        return data


@contextmanager
def _open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar for one pass; at the end the rest is read, so that checksums are verified."""
    kind = _kind(archive)
    with ExitStack() as stack:
        if kind is None:
            with archive.open("rb") as file:
                start = file.read(40)
            raise UnusableArchive(
                f"{archive}: not a zip, tar, tar.gz or tar.zst file, it begins with {start!r}; a web page instead of "
                "the file usually means that the link requires a login or a confirmation"
            )
        if kind == "zst":
            file = stack.enter_context(archive.open("rb"))
            decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
            plain: Any = stack.enter_context(decompressor.stream_reader(file, read_across_frames=True))
        else:
            opening: Any = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}.get(kind, open)
            plain = stack.enter_context(opening(archive, "rb"))
        stream = _Stream(plain)
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Entry) as content:
            yield content
        while stream.read(CHUNK_BYTES):
            pass
        if stream.tail != _END:
            raise EOFError("the end mark is missing")


def _inside(archive: Path, name: str) -> PurePosixPath:
    """Return an entry's path below the folder.

    Raises:
        UserError: if it is absolute, leaves the folder, or is too long.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if (
        "\0" in name
        or len(path.parts) > MAX_DEPTH
        or len(os.fsencode(name)) > MAX_PATH_BYTES
        or any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in path.parts)
    ):
        raise _refusal(archive, f"{name[:60]}...", "a path that is too long")
    if path.is_absolute() or re.match(r"[A-Za-z]:", name):
        raise _refusal(archive, name, "an absolute path")
    if ".." in path.parts:
        raise _refusal(archive, name, "a path that leaves the folder")
    return path


def _refusal(archive: Path, name: str, what: str) -> UserError:
    return UserError(f"{archive}: refused, because it holds {what}: {name!r}; get the archive from its publisher")


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
    return progress(total, f"unpacking {archive.name}", "files", done)
