"""Read the size and hash of every image file, and find its problems. Intact, unchanged files are not read again."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any

import pandas as pd
import simplejpeg

from vpr.config.atomic_files import atomic_write
from vpr.config.errors import one_line
from vpr.config.progress import progress
from vpr.config.project import data_root
from vpr.data.images import ImageError, as_spelled, decode, plain_jpeg_size, read_file
from vpr.data.manifest import VERIFIED_COLUMNS
from vpr.data.processes import in_processes
from vpr.data.ray_engine import in_ray_tasks

CHUNK = 256
SAVE_EVERY_S = 30.0
_CHECKS = 3  # raise this number to read all files again
_PADDING = 16  # bytes after the pixels, which some cameras write
_FILE_COLUMNS = ["image", "mtime_ns", *VERIFIED_COLUMNS, "problem"]


def read_all_files(folder: Path, images: list[str], num_workers: int | None, engine: str) -> pd.DataFrame:
    """Return a row for each file. The results for a folder behind a symbolic link are kept under its real path."""
    groups: dict[str, list[str]] = {}
    for image in images:
        groups.setdefault(image.partition("/")[0], []).append(image)
    linked = {top for top in groups if "/" in groups[top][0] and (folder / top).is_symlink()}
    read = [
        _read_files(
            (folder / top).resolve(), [image.partition("/")[2] for image in groups[top]], num_workers, engine, top
        )
        for top in sorted(linked)
    ]
    rest = [image for top, members in groups.items() if top not in linked for image in members]
    for top, table in zip(sorted(linked), read, strict=True):
        table["image"] = f"{top}/" + table["image"]
    if rest or not read:
        read.append(_read_files(folder, rest, num_workers, engine, folder.name))
    return pd.concat(read, ignore_index=True)


def _read_files(folder: Path, images: list[str], num_workers: int | None, engine: str, name: str) -> pd.DataFrame:
    """Return the size, hash and problem of each file; those of unchanged files come from an earlier run."""
    memory = data_root() / ".verified" / f"{hashlib.sha256(f'{_CHECKS}:{folder}'.encode()).hexdigest()[:16]}.parquet"
    known = pd.read_parquet(memory) if memory.is_file() else pd.DataFrame(columns=_FILE_COLUMNS)
    now = pd.DataFrame([(i, *_stamp(f"{folder}/{i}")) for i in images], columns=["image", "bytes_now", "mtime_now"])
    before = now.merge(known, on="image", how="left")
    same = ((before["num_bytes"] == before["bytes_now"]) & (before["mtime_ns"] == before["mtime_now"])).to_numpy()
    kept = before.loc[same, _FILE_COLUMNS]
    to_read = now.loc[~same, "image"].to_list()
    results: list[tuple[Any, ...]] = []
    saved_at = time.monotonic()
    with progress(len(images), f"verifying {name}", "images", len(kept)) as bar:
        jobs = [(folder, to_read[k : k + CHUNK]) for k in range(0, len(to_read), CHUNK)]
        chunks = in_ray_tasks(_read_chunk, jobs) if engine == "ray" else in_processes(_read_chunk, jobs, num_workers)
        for chunk in chunks:
            results += chunk
            bar.update(len(chunk))
            if time.monotonic() - saved_at > SAVE_EVERY_S:
                _save(memory, known, results)
                saved_at = time.monotonic()
    if to_read:
        _save(memory, known, results)
    read = pd.DataFrame(results, columns=_FILE_COLUMNS)
    return pd.concat([part for part in (kept, read) if len(part)] or [read], ignore_index=True)


def _save(memory: Path, known: pd.DataFrame, results: list[tuple[Any, ...]]) -> None:
    """Remember the files without problems, together with those of other listings of this folder."""
    read = pd.DataFrame(results, columns=_FILE_COLUMNS)
    table = pd.concat([known[~known["image"].isin(set(read["image"]))], read[read["problem"] == ""]], ignore_index=True)
    with atomic_write(memory) as part:
        table.to_parquet(part)


def _read_chunk(job: tuple[Path, list[str]]) -> list[tuple[Any, ...]]:
    folder, images = job
    return [_read_file(folder, image) for image in images]


def _read_file(folder: Path, image: str) -> tuple[Any, ...]:
    """Return a row of ``_FILE_COLUMNS``."""
    path = as_spelled(folder / image)
    num_bytes, mtime_ns = _stamp(str(path))
    sha256, width, height = "", 0, 0
    try:
        content = read_file(path)
        sha256 = hashlib.sha256(content).hexdigest()
        size, problem = plain_jpeg_size(content), jpeg_damage(content)
        width, height = decode(content).size if size is None or problem else size
    except FileNotFoundError:
        problem = "the file is missing"
    except (ImageError, OSError) as error:
        problem = str(error).replace(str(path), "the file")
    return image, mtime_ns, num_bytes, sha256, width, height, problem


def jpeg_damage(content: bytes) -> str:
    """Return what libjpeg warns about in a JPEG, if pixels are missing or wrong; ``""`` for a sound or another image.

    Decoders fill the rest of a broken scan with grey, and go on.
    """
    if not content.startswith(b"\xff\xd8"):
        return ""
    try:
        simplejpeg.decode_jpeg(content, colorspace="GRAY", strict=True)
    except ValueError as error:
        extra = re.search(r"(\d+) extraneous bytes before marker (0xd\d)?", str(error))
        harmless = extra is not None and (extra[2] is None or int(extra[1]) <= _PADDING)
        if str(error).startswith(("Corrupt", "Premature")) and not harmless:
            return f"a damaged JPEG: {one_line(error, 100)}"
    return ""


def _stamp(path: str) -> tuple[int, int]:
    """Return the size in bytes and the modification time of a file; ``(-1, -1)`` if there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116 (called half a million times)
    except OSError:
        spelled = as_spelled(Path(path))
        return _stamp(str(spelled)) if str(spelled) != path else (-1, -1)
    return stat.st_size, stat.st_mtime_ns
