"""Positives that are listed instead of computed from coordinates: windows of frames, and files of lists.

A database image gets the column ``frame``, a query ``positive_frames``: the frames that are its positives, separated
by blanks.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib import format as npy

from vpr.params import SourceParams

# What an array of numbers and lists of numbers is made of; anything else could run code.
_HARMLESS = {
    (module, name)
    for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy._core.numeric", "_codecs")
    for name in ("ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer", "encode")
}


def frame_columns(
    where: str, folder: Path, source: SourceParams, database: pd.DataFrame, queries: pd.DataFrame
) -> None:
    """Fill in ``frame`` and ``positive_frames``; frames are counted in natural order of the file names.

    Raises:
        ValueError: if the lists do not fit the images, or can only be read by running code.
    """
    order = {role: natural_order(rows["image"]) for role, rows in (("database", database), ("queries", queries))}
    frame = np.empty(len(database), dtype=object)
    frame[order["database"]] = [str(k) for k in range(len(database))]
    if source.ground_truth is not None:
        path = folder / source.ground_truth
        lists = read_ground_truth(where, path, len(queries), len(database), source.allow_pickle)
    else:
        assert source.frame_window is not None, "one of the two is given"
        if len(database) != len(queries):
            raise ValueError(
                f"{where}.frame_window pairs each query with a database frame, but {folder} has {len(queries)} queries "
                f"and {len(database)} database images"
            )
        reach = source.frame_window
        lists = [list(range(max(0, k - reach), min(len(database), k + reach + 1))) for k in range(len(queries))]
    positives = np.empty(len(queries), dtype=object)
    positives[order["queries"]] = [" ".join(map(str, frames)) for frames in lists]
    database["frame"], database["positive_frames"] = frame, ""
    queries["frame"], queries["positive_frames"] = "", positives


def natural_order(names: Any) -> list[int]:
    """Indices that sort names with their numbers as numbers: ``2.jpg`` before ``10.jpg``."""
    keys = [[(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(n))] for n in names]
    return sorted(range(len(keys)), key=keys.__getitem__)


def read_ground_truth(
    where: str, path: Path, num_queries: int, num_database: int, allow_pickle: bool = False
) -> list[list[int]]:
    """The positives of each query as database frames.

    Understood are VPR-Bench's ``ground_truth_new.npy`` (rows of query number and list), an array of lists, and a
    plain array whose row belongs to the query of that number.

    Args:
        allow_pickle: unpickle whatever the file holds. Without it only numbers, lists and arrays are.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{where}.ground_truth: {path} is not there")
    array = _read_npy(where, path, allow_pickle)
    lists: dict[int, list[int]] = {}
    pairs = array.dtype == object and array.ndim == 2 and array.shape[1] == 2 and np.ndim(array[0, 1]) == 1
    try:
        for k, row in enumerate(array):
            query, frames = (int(row[0]), row[1]) if pairs else (k, row)
            lists[query] = sorted({int(frame) for frame in np.atleast_1d(np.asarray(frames)).ravel()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: row {len(lists)} is no list of database frames: {error}") from None
    if sorted(lists) != list(range(num_queries)):
        raise ValueError(f"{path} lists the positives of {len(lists)} queries, the set has {num_queries}")
    beyond = [frame for frames in lists.values() for frame in frames if not 0 <= frame < num_database]
    if beyond:
        raise ValueError(f"{path} names database frame {beyond[0]}, the set has 0 to {num_database - 1}")
    return [lists[k] for k in range(num_queries)]


class _NumbersOnly(pickle.Unpickler):
    """Rebuilds arrays and lists of numbers, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def _read_npy(where: str, path: Path, allow_pickle: bool) -> Any:
    try:
        if allow_pickle:
            return np.load(path, allow_pickle=True)
        with path.open("rb") as file:
            version = npy.read_magic(file)
            shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(
                file
            )
            if not dtype.hasobject:
                return np.load(path, allow_pickle=False)
            array = np.empty(shape, dtype=object, order="F" if fortran else "C")
            array[...] = np.asarray(_NumbersOnly(file, encoding="latin1").load(), dtype=object).reshape(shape)
            return array
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than numbers ({error}), and reading it could run code; if you trust its publisher, "
            f"set {where}.allow_pickle to true"
        ) from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: no .npy file that can be read: {error}") from None
