"""Positives that are listed instead of computed from coordinates: windows of frames, and files with lists.

A database image gets the column ``frame``, and a query the column ``positive_frames``, the frames of its positives
separated by blanks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vpr.config.errors import UserError, one_line
from vpr.data.natural_order import natural_key
from vpr.sources.catalogue import SourceParams


def frame_columns(
    where: str, folder: Path, source: SourceParams, database: pd.DataFrame, queries: pd.DataFrame
) -> None:
    """Fill in ``frame`` and ``positive_frames``; frames are counted in natural order of the file names.

    Raises:
        UserError: if the lists do not fit the images, or cannot be read.
    """
    if source.ground_truth is not None:
        listed_positives(where, folder / source.ground_truth, database, queries, source.allow_pickle)
        return
    assert source.frame_window is not None, "a source has one of the two"
    if len(database) != len(queries):
        raise UserError(
            f"{where}.frame_window pairs each query with a database frame, but {folder} has {len(queries)} queries "
            f"and {len(database)} database images"
        )
    reach = source.frame_window
    lists = [list(range(max(0, k - reach), min(len(database), k + reach + 1))) for k in range(len(queries))]
    _fill_in(database, queries, lists)
    database["sequence"] = queries["sequence"] = "frames"


def listed_positives(
    where: str, path: Path, database: pd.DataFrame, queries: pd.DataFrame, allow_pickle: bool = False
) -> None:
    """Fill in ``frame`` and ``positive_frames`` from a file; see ``frame_columns`` and ``read_ground_truth``."""
    _fill_in(database, queries, read_ground_truth(where, path, len(queries), len(database), allow_pickle))


def _fill_in(database: pd.DataFrame, queries: pd.DataFrame, lists: list[list[int]]) -> None:
    frame, positives = np.empty(len(database), dtype=object), np.empty(len(queries), dtype=object)
    frame[natural_order(database["image"])] = [str(k) for k in range(len(database))]
    positives[natural_order(queries["image"])] = [" ".join(map(str, frames)) for frames in lists]
    database["frame"], database["positive_frames"] = frame, ""
    queries["frame"], queries["positive_frames"] = "", positives


def natural_order(names: pd.Series[str]) -> list[int]:
    """Return the indices that sort names naturally."""
    keys = [natural_key(name) for name in names]
    return sorted(range(len(keys)), key=keys.__getitem__)


def read_ground_truth(
    where: str, path: Path, num_queries: int, num_database: int, allow_pickle: bool = False
) -> list[list[int]]:
    """Return the positives of each query as database frames.

    A file holds a boolean array ``(queries, database)``, or an array of integers with a row of frames for each query.
    With ``allow_pickle`` it may also hold an array of lists, or VPR-Bench's pairs of query number and list.

    Args:
        where: Key of the source in error messages.
        path: File in NumPy's format.
        num_queries, num_database: Number of images.
        allow_pickle: Allow Python objects; reading them may run code.

    Raises:
        UserError: if the file is anything else, or does not fit the images.
    """
    rows = _read_npy(where, path, allow_pickle)
    if rows.dtype == bool:
        if rows.shape != (num_queries, num_database):
            raise UserError(f"{path} is a table of {rows.shape}; the set has {num_queries} x {num_database} images")
        return [np.flatnonzero(row).tolist() for row in rows]
    numbered = list(enumerate(rows))
    if rows.dtype == object and all(_is_pair(row) for row in rows):
        numbered = [(_whole(path, row[0]), row[1]) for row in rows]
    lists = {query: sorted({_whole(path, frame) for frame in _flat(frames)}) for query, frames in numbered}
    if len(lists) < len(numbered) or set(lists) != set(range(num_queries)):
        missing = sorted(set(range(num_queries)) - set(lists))
        raise UserError(
            f"{path} lists the positives of {len(lists)} queries, the set has {num_queries}; it lacks {missing[:5]}, "
            "counted from 0"
        )
    frames = [frame for row in lists.values() for frame in row]
    if num_database > 2 and frames and max(frames) <= 1 and all(len(_flat(row)) == num_database for row in rows):
        raise UserError(f"{path} holds 0 and 1 as numbers; save it as an array of booleans")
    beyond = [frame for frame in frames if not 0 <= frame < num_database]
    if beyond:
        raise UserError(f"{path} names database frame {beyond[0]}, the set has 0 to {num_database - 1}")
    return [lists[k] for k in range(num_queries)]


def read_names(where: str, path: Path) -> list[str]:
    """Return the paths of images in a ``.npy`` file of strings.

    Raises:
        UserError: if the file is missing or holds anything else.
    """
    rows = _read_npy(where, path, False, "US")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in rows.ravel().tolist()]


def read_indices(where: str, path: Path, number: int) -> list[int]:
    """Return indices below ``number`` in a ``.npy`` file.

    Raises:
        UserError: if the file is missing, holds anything else, or an index is too large.
    """
    found = [_whole(path, value) for value in _read_npy(where, path, False, "iuf").ravel().tolist()]
    beyond = [index for index in found if not 0 <= index < number]
    if beyond:
        raise UserError(f"{path} names query {beyond[0]}, the list of queries has 0 to {number - 1}")
    return found


def _is_pair(row: Any) -> bool:
    """Return true for a query number with its list."""
    return (
        isinstance(row, (list, tuple, np.ndarray))
        and len(row) == 2
        and np.ndim(row[0]) == 0
        and isinstance(row[1], (list, tuple, np.ndarray))
    )


def _flat(frames: Any) -> list[Any]:
    return list(np.asarray(frames, dtype=object).ravel())


def _whole(path: Path, value: Any) -> int:
    """Return a frame or query number.

    Raises:
        UserError: for anything that is not a whole number.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise UserError(f"{path}: {value!r} is not a frame number")
    too_large = isinstance(value, int) and abs(value) > 2**53  # float() may overflow
    if too_large or abs(float(value)) > 2**53 or not float(value).is_integer():
        raise UserError(f"{path}: {value!r} is not a whole number; frames are counted 0, 1, 2")
    return int(value)


def _read_npy(where: str, path: Path, allow_pickle: bool, kinds: str = "biufO") -> Any:
    if not path.is_file():
        raise UserError(f"{where}: {path} does not exist")
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)  # np.load would take any other file for a pickle
        rows = np.load(path, allow_pickle=allow_pickle, mmap_mode=None if allow_pickle else "r")
    except Exception as error:  # a damaged file fails in many ways
        if "Python objects" in str(error):
            raise UserError(
                f"{path} holds Python objects, and reading them could run code; if you trust its publisher, set "
                f"{where}.allow_pickle to true"
            ) from None
        raise UserError(f"{path}: not a .npy file that can be read: {one_line(error)}") from None
    if not isinstance(rows, np.ndarray) or not rows.ndim or rows.dtype.kind not in kinds:
        expected = "file names" if "U" in kinds else "numbers, booleans or lists; see docs/own-data.md"
        raise UserError(f"{path}: expected an array of {expected}")
    return rows
