"""The files of an index, a database of described photos to locate others in.

An index is a folder with ``descriptors.npy`` ``(number, D)``, ``images.parquet`` with a row for each descriptor, and
``index.json`` with the model's hash, the name of the images and the calibration.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import ArrowException
from pydantic import TypeAdapter, ValidationError

from vpr.config.atomic_files import atomic_write
from vpr.config.errors import UserError, one_line
from vpr.config.params import Positive
from vpr.data.manifest import COLUMNS
from vpr.data.parquet_files import read_parquet
from vpr.data.timestamps import plain_timestamp
from vpr.descriptors.arrays import create_array
from vpr.localization.confidence import Calibration

INDEX_COLUMNS = ["image", "utm_east", "utm_north", "utm_zone", "place_id", "heading", "timestamp"]
MAX_COORDINATE_M = 1e8
FILES = ("descriptors.npy", "images.parquet", "index.json")


@dataclass(frozen=True)
class IndexFacts:
    """The content of ``index.json`` apart from the calibration.

    Attributes:
        model_sha256: Hash of the checkpoint that described the images.
        dataset: Dataset of the images; empty for a folder of photos.
        name: Name of the images.
        radius_m: Two photos within this distance show the same place.
    """

    model_sha256: str
    dataset: str
    name: str
    radius_m: Positive


def write_index(
    folder: Path,
    descriptors: NDArray[np.float32],
    images: pd.DataFrame,
    facts: IndexFacts,
    calibration: Calibration | None,
) -> None:
    """Write the files of an index.

    Args:
        folder: Folder to write into.
        descriptors: Descriptors ``(number, D)``.
        images: Table with ``INDEX_COLUMNS``, a row for each descriptor.
        facts: Further content of ``index.json``.
        calibration: Calibration of the confidence; ``None`` for none.
    """
    # An index may be saved where it was read from, and its descriptors are a memory map of that file.
    with atomic_write(folder / FILES[0]) as part:
        create_array(part, descriptors.shape)[:] = descriptors
    images[INDEX_COLUMNS].reset_index(drop=True).to_parquet(folder / FILES[1])
    (folder / FILES[2]).write_text(facts_as_json(facts, calibration), encoding="utf-8")


def read_index(folder: Path) -> tuple[NDArray[np.float32], pd.DataFrame, IndexFacts, Calibration | None]:
    """Read what ``write_index`` wrote; the descriptors are a memory map.

    Raises:
        UserError: if the folder holds no index, or its files are damaged or do not belong together.
    """
    files = _existing_files(folder)
    try:
        facts, calibration = facts_from_json(files[2].read_text(encoding="utf-8"), files[2].name)
        images = _read_images(files[1])
        descriptors = _read_descriptors(files[0], len(images))
    except (ValueError, OSError, MemoryError, RecursionError, ArrowException) as error:
        raise _damaged(folder, error) from None
    return descriptors, images, facts, calibration


def read_calibration(folder: Path) -> tuple[IndexFacts, Calibration | None]:
    """Read only the facts and the calibration of an index.

    Raises:
        UserError: if the folder holds no index, or ``index.json`` is damaged.
    """
    file = _existing_files(folder)[2]
    try:
        return facts_from_json(file.read_text(encoding="utf-8"), file.name)
    except (ValueError, OSError, RecursionError) as error:
        raise _damaged(folder, error) from None


def facts_as_json(facts: IndexFacts, calibration: Calibration | None) -> str:
    """Return the content of ``index.json``."""
    content = {**asdict(facts), "calibration": calibration.as_dict() if calibration else None}
    return json.dumps(content, indent=2) + "\n"


def facts_from_json(text: str, name: str) -> tuple[IndexFacts, Calibration | None]:
    """Parse what ``facts_as_json`` returned.

    Args:
        text: The JSON text.
        name: Name of its file or table, for messages.

    Raises:
        ValueError: if the text is anything else.
    """
    content = json.loads(text)
    if not isinstance(content, dict) or set(content) != {*IndexFacts.__annotations__, "calibration"}:
        raise ValueError(f"{name} has other keys than {sorted(IndexFacts.__annotations__)} and calibration")
    try:
        calibration = TypeAdapter(Calibration | None).validate_python(content.pop("calibration"))
        facts: IndexFacts = TypeAdapter(IndexFacts).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return facts, calibration


def _existing_files(folder: Path) -> list[Path]:
    files = [folder / name for name in FILES]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"{folder}: not an index, {', '.join(missing)} is missing; run `dvc repro index`, or `vpr index` for your "
            "own photos"
        )
    return files


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder}: the index is damaged: {one_line(error)}; build it again")


def _read_images(path: Path) -> pd.DataFrame:
    try:
        images = read_parquet(path).to_pandas(ignore_metadata=True)
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path.name} is not a Parquet table that can be read: {error}") from None
    missing = [column for column in INDEX_COLUMNS if column not in images]
    if missing:
        raise ValueError(f"{path.name} has no columns {missing}")
    images = images[INDEX_COLUMNS]
    for column in INDEX_COLUMNS:
        if COLUMNS[column] == "str" and not images[column].map(lambda cell: isinstance(cell, str)).all():
            raise ValueError(f"{path.name}: {column} must hold texts only")
        if COLUMNS[column] != "str" and not pd.api.types.is_float_dtype(images[column]):
            raise ValueError(f"{path.name}: {column} must hold numbers only")
    far = (images[["utm_east", "utm_north"]].abs() > MAX_COORDINATE_M).any(axis=1)
    if far.any():
        raise ValueError(f"{path.name}: {int(far.sum())} coordinates are beyond {MAX_COORDINATE_M:,.0f} m")
    images = images.reset_index(drop=True)
    # Indexes of earlier versions hold timestamps as they were written.
    plain = {text: text if text.startswith("+") else plain_timestamp(text) for text in images["timestamp"].unique()}
    images["timestamp"] = images["timestamp"].map(plain)
    return images


def _read_descriptors(path: Path, num_images: int) -> NDArray[np.float32]:
    try:
        descriptors = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # a damaged header fails in many ways
        raise ValueError(f"{path.name} is not an array of numbers") from None
    if descriptors.dtype != np.float32 or descriptors.ndim != 2 or 0 in descriptors.shape:
        raise ValueError(
            f"{path.name} holds {descriptors.shape} of {descriptors.dtype}; expected (number, D) of float32"
        )
    if len(descriptors) != num_images:
        raise ValueError(f"{path.name} has {len(descriptors)} descriptors for {num_images} images")
    if not (descriptors.max() <= 1.001 and descriptors.min() >= -1.001):
        raise ValueError(f"{path.name} must hold descriptors of unit norm only")
    return descriptors
