"""Positives that are listed instead of computed from coordinates: windows of frames, and files of lists.

A database image gets the column ``frame``, a query ``positive_frames``: the frames that are its positives, separated
by blanks.
"""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib import format as npy

from vpr.config.errors import UserError
from vpr.sources.catalogue import SourceParams

MAX_DEPTH = 8  # of lists in each other


def frame_columns(
    where: str, folder: Path, source: SourceParams, database: pd.DataFrame, queries: pd.DataFrame
) -> None:
    """Fill in ``frame`` and ``positive_frames``; frames are counted in natural order of the file names.

    Raises:
        UserError: if the lists do not fit the images, or can only be read by running code.
    """
    if source.ground_truth is not None:
        listed_positives(where, folder / source.ground_truth, database, queries, source.allow_pickle)
        return
    assert source.frame_window is not None, "one of the two is given"
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
    order = {role: natural_order(rows["image"]) for role, rows in (("database", database), ("queries", queries))}
    frame = np.empty(len(database), dtype=object)
    frame[order["database"]] = [str(k) for k in range(len(database))]
    positives = np.empty(len(queries), dtype=object)
    positives[order["queries"]] = [" ".join(map(str, frames)) for frames in lists]
    database["frame"], database["positive_frames"] = frame, ""
    queries["frame"], queries["positive_frames"] = "", positives


def natural_order(names: Any) -> list[int]:
    """Indices that sort names with their numbers as numbers: ``2.jpg`` before ``10.jpg``."""
    keys = [[(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(n))] for n in names]
    return sorted(range(len(keys)), key=keys.__getitem__)


def read_ground_truth(
    where: str, path: Path, num_queries: int, num_database: int, allow_pickle: bool = False
) -> list[list[int]]:
    """The positives of each query as database frames.

    Understood are VPR-Bench's ``ground_truth_new.npy`` (rows of query number and list), an array of lists, a plain
    array whose row belongs to the query of that number, and a boolean table of queries x database.

    Args:
        allow_pickle: unpickle whatever the file holds. Without it only numbers, lists and arrays are.

    Raises:
        UserError: if the file is not one of these, or does not fit the images.
    """
    if not path.is_file():
        raise UserError(f"{where}.ground_truth: {path} is not there")
    rows = _read_npy(where, path, allow_pickle)
    if isinstance(rows, np.ndarray) and rows.dtype == bool:
        if rows.shape != (num_queries, num_database):
            raise UserError(f"{path} is a table of {rows.shape}; the set has {num_queries} x {num_database} images")
        return [np.flatnonzero(row).tolist() for row in rows]
    if not isinstance(rows, np.ndarray) and all(_is_pair(row) for row in rows):
        numbered = [(_whole(path, row[0]), row[1]) for row in rows]
    else:
        numbered = list(enumerate(rows))
    lists = {query: sorted({_whole(path, frame) for frame in _flat(frames)}) for query, frames in numbered}
    if len(lists) < len(numbered) or set(lists) != set(range(num_queries)):
        missing = sorted(set(range(num_queries)) - set(lists))
        raise UserError(
            f"{path} lists the positives of {len(lists)} queries, the set has {num_queries}; it lacks {missing[:5]}, "
            "counted from 0"
        )
    frames: list[int] = [frame for row in lists.values() for frame in row]
    if num_database > 2 and frames and max(frames) <= 1 and all(len(_flat(row)) == num_database for row in rows):
        raise UserError(f"{path} holds 0 and 1 as numbers; save it as an array of booleans")
    beyond = [frame for frame in frames if not 0 <= frame < num_database]
    if beyond:
        raise UserError(f"{path} names database frame {beyond[0]}, the set has 0 to {num_database - 1}")
    return [lists[k] for k in range(num_queries)]


def _is_pair(row: Any) -> bool:
    """A query number and its list."""
    return isinstance(row, (list, tuple)) and len(row) == 2 and np.ndim(row[0]) == 0 and np.ndim(row[1]) == 1


def _flat(frames: Any) -> list[Any]:
    return list(np.asarray(frames, dtype=object).ravel())


def _whole(path: Path, value: Any) -> int:
    """A frame or query number.

    Raises:
        UserError: for anything that is not a whole number.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise UserError(f"{path}: {value!r} is not a frame number")
    too_large = isinstance(value, int) and abs(value) > 2**53  # which float() may not even take
    if too_large or not float(value).is_integer() or abs(float(value)) > 2**53:
        raise UserError(f"{path}: {value!r} is not a whole number; frames are counted 0, 1, 2")
    return int(value)


class _Dtype:
    """Stands for ``numpy.dtype`` in a pickle: a code of plain numbers, or of objects."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not (isinstance(code, str) and (code == "O8" or code == "O" or re.fullmatch(r"[biuf][1248]", code))):
            raise pickle.UnpicklingError(f"numbers of the type {code!r}")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]

    def numbers(self, data: Any) -> Any:
        """The numbers that these bytes are."""
        if self.code.startswith("O"):
            raise pickle.UnpicklingError("objects given as bytes")
        content = data.encode("latin1") if isinstance(data, str) else data
        return np.frombuffer(bytes(content), dtype=self.order + self.code)


class _Array:
    """Stands for an array in a pickle; ``value`` is a list of what is in it, row by row."""

    def __init__(self, *_: Any) -> None:
        self.value: list[Any] = []

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not (isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)):
            raise pickle.UnpicklingError("an array without a shape")
        if not isinstance(dtype, _Dtype) or fortran:
            raise pickle.UnpicklingError("an array of another order or type")
        items = list(data) if dtype.code.startswith("O") and isinstance(data, list) else dtype.numbers(data).tolist()
        if len(items) != math.prod(shape) or len(shape) > 2:
            raise pickle.UnpicklingError(f"{len(items)} items for an array of {shape}")
        width = shape[1] if len(shape) == 2 else 0
        self.value = [items[k : k + width] for k in range(0, len(items), width)] if width else items


def _number(dtype: Any, data: Any) -> Any:
    """Stands for a NumPy scalar in a pickle."""
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("a number without a type")
    return dtype.numbers(data)[0].item()


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _number for core in ("core", "_core")},
    ("_codecs", "encode"): lambda text, _: str(text).encode("latin1"),
}


class _NumbersOnly(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Reads lists and arrays of numbers. No class of the file's choice is ever made, NumPy's own included.

    Python's unpickler, not C's, which reserves as much memory as the file asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return _STAND_INS[module, name]


class _Plain:
    """Lists and arrays as lists; refused are more values than a file of that size holds without naming one twice."""

    def __init__(self, num_bytes: int) -> None:
        self.values_left = 10 * num_bytes + 1_000_000

    def __call__(self, item: Any, depth: int = 0) -> Any:
        if isinstance(item, _Array):
            return self(item.value, depth)
        if not isinstance(item, (list, tuple)):
            return item
        self.values_left -= len(item)
        if self.values_left < 0 or depth > MAX_DEPTH:
            raise ValueError("its lists hold each other again and again")
        return [self(part, depth + 1) for part in item]


def _read_npy(where: str, path: Path, allow_pickle: bool) -> Any:
    """A plain array, or the rows of an array of objects as lists."""
    try:
        with path.open("rb") as file:
            version = npy.read_magic(file)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read_header(file)
            if not dtype.hasobject:
                if not shape or max(shape[0], math.prod(shape) * dtype.itemsize) > path.stat().st_size:
                    raise ValueError("it is shorter than it says")
                if dtype.kind not in "biuf":
                    raise ValueError(f"it holds values of the type {dtype}, not frame numbers")
                return np.load(path, allow_pickle=False)
            if allow_pickle:
                return [list(row) if isinstance(row, np.ndarray) else row for row in np.load(path, allow_pickle=True)]
            rows = _Plain(path.stat().st_size)(_NumbersOnly(file, encoding="latin1").load())
            if not isinstance(rows, list):
                raise ValueError("it holds no array")
            return rows
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than lists of numbers ({error}), and reading it could run code; if you trust its "
            f"publisher, set {where}.allow_pickle to true"
        ) from None
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(f"{path}: no .npy file that can be read: {error}") from None
