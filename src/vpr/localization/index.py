"""A database of described photos, to locate others in.

An index is a folder: ``descriptors.npy`` ``(number, D)``, ``images.parquet`` with a row for each of them, and
``index.json`` with the model's hash, what the images are and the calibration. The ``index`` stage leaves one of a run,
``vpr index`` builds one from a folder of photos.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import ArrowException
from pydantic import TypeAdapter, ValidationError

from vpr.config.errors import UserError
from vpr.config.params import Positive
from vpr.data.arrays import create_array
from vpr.data.manifest import COLUMNS
from vpr.localization.confidence import Calibration

INDEX_COLUMNS = ["image", "utm_east", "utm_north", "utm_zone", "place_id", "heading", "timestamp"]


@dataclass(frozen=True)
class IndexFacts:
    """What ``index.json`` says beside the calibration.

    Attributes:
        model_sha256: of the checkpoint that described the images.
        dataset: that the images are of; empty for a folder of photos.
        name: what the images are.
        radius_m: two photos within it show the same place.
    """

    model_sha256: str
    dataset: str
    name: str
    radius_m: Positive


@dataclass(frozen=True)
class Index:
    """A database to locate photos in.

    Attributes:
        descriptors: ``(number, D)``, rows of unit norm.
        images: ``INDEX_COLUMNS`` of each.
        facts: what else is known.
        calibration: ``None`` where it was not learnt.
    """

    descriptors: NDArray[np.float32]
    images: pd.DataFrame
    facts: IndexFacts
    calibration: Calibration | None

    @property
    def confidence_holds(self) -> bool:
        """Whether the calibration was learnt on the dataset that these images are of."""
        return self.calibration is not None and self.calibration.dataset == self.facts.dataset

    def save(self, folder: Path) -> None:
        """Write the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        create_array(folder / "descriptors.npy", self.descriptors.shape)[:] = self.descriptors
        self.images[INDEX_COLUMNS].reset_index(drop=True).to_parquet(folder / "images.parquet")
        content = {**asdict(self.facts), "calibration": self.calibration.as_dict() if self.calibration else None}
        (folder / "index.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_index(folder: Path) -> Index:
    """Read what ``Index.save`` wrote.

    Raises:
        UserError: if it is not such a folder, or its files do not fit each other.
    """
    files = [folder / name for name in ("descriptors.npy", "images.parquet", "index.json")]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"{folder}: no index, {', '.join(missing)} is not there; run `dvc repro index`, or `vpr index` for photos "
            "of your own"
        )
    try:
        facts, calibration = _facts(files[2])
        images = _images(files[1])
        descriptors = _descriptors(files[0], len(images))
    except (ValueError, OSError, MemoryError, RecursionError, ArrowException) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{folder}: the index is damaged: {reason}; build it again") from None
    return Index(descriptors, images, facts, calibration)


def _facts(path: Path) -> tuple[IndexFacts, Calibration | None]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or set(content) != {*IndexFacts.__annotations__, "calibration"}:
        raise ValueError(f"{path.name} has other keys than {sorted(IndexFacts.__annotations__)} and calibration")
    try:
        calibration = TypeAdapter(Calibration | None).validate_python(content.pop("calibration"))
        facts: IndexFacts = TypeAdapter(IndexFacts).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return facts, calibration


def _images(path: Path) -> pd.DataFrame:
    try:
        images = pq.read_table(path).to_pandas(ignore_metadata=True)
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path.name} is not a Parquet table: {error}") from None
    missing = [column for column in INDEX_COLUMNS if column not in images]
    if missing:
        raise ValueError(f"{path.name} has no columns {missing}")
    images = images[INDEX_COLUMNS]
    for column in INDEX_COLUMNS:
        if COLUMNS[column] == "str" and not images[column].map(lambda cell: isinstance(cell, str)).all():
            raise ValueError(f"{path.name}: {column} holds more than texts")
        if COLUMNS[column] != "str" and not pd.api.types.is_float_dtype(images[column]):
            raise ValueError(f"{path.name}: {column} holds more than numbers")
    return images.reset_index(drop=True)


def _descriptors(path: Path, num_images: int) -> NDArray[np.float32]:
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
        raise ValueError(f"{path.name} holds more than descriptors of unit norm")
    return descriptors
