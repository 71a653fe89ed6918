"""A database of described photos, to locate others in.

An index is a folder: ``descriptors.npy`` ``(number, D)``, ``images.parquet`` with a row for each of them, and
``index.json`` with the model's hash, what the images are and the calibration. The ``index`` stage leaves one of a run,
``vpr index`` builds one from a folder of photos.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import ArrowException
from pydantic import TypeAdapter, ValidationError

from vpr.config.errors import UserError
from vpr.config.params import Positive
from vpr.data.arrays import create_array
from vpr.data.coordinates import to_degrees
from vpr.data.manifest import COLUMNS
from vpr.localization.confidence import Calibration
from vpr.localization.filters import ANYWHERE, Where
from vpr.retrieval.search import exact_index, search, search_in

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
class Found:
    """The nearest photos of a query.

    Attributes:
        images: ``INDEX_COLUMNS``, ``lat`` and ``lon`` of each, nearest first.
        distances: of their descriptors, ``(number,)``.
    """

    images: pd.DataFrame
    distances: NDArray[np.float32]


class Database(Protocol):
    """What photos are located in: an ``Index``, or one in LanceDB."""

    @property
    def facts(self) -> IndexFacts: ...

    @property
    def calibration(self) -> Calibration | None: ...

    @property
    def descriptor_dim(self) -> int: ...

    def search(self, queries: NDArray[np.float32], k: int, where: Where) -> list[Found]:
        """The nearest ``k`` photos of each query, or fewer where fewer fit."""


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

    def __len__(self) -> int:
        return len(self.images)

    @property
    def descriptor_dim(self) -> int:
        """D."""
        return int(self.descriptors.shape[1])

    @cached_property
    def degrees(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude of each photo; not a number where its zone is not known."""
        east, north = (self.images[name].to_numpy(dtype=float) for name in ("utm_east", "utm_north"))
        return to_degrees(east, north, self.images["utm_zone"].to_list())

    @cached_property
    def _exact(self) -> Any:
        return exact_index(self.descriptors)

    def search(self, queries: NDArray[np.float32], k: int = 5, where: Where = ANYWHERE) -> list[Found]:
        """The nearest ``k`` photos of each query ``(number, D)``, among those that fit."""
        if where.is_empty:
            ranking, distances = search_in(self._exact, queries, k)
        else:
            fitting = np.flatnonzero(where.mask(self.images, *self.degrees))
            if not len(fitting):
                return [Found(self.images.iloc[:0], np.empty(0, np.float32)) for _ in queries]
            ranking, distances = search(self.descriptors[fitting], queries, k)
            ranking = fitting[ranking]
        lat, lon = self.degrees
        return [
            Found(self.images.iloc[rows].assign(lat=lat[rows], lon=lon[rows]), far)
            for rows, far in zip(ranking, distances, strict=True)
        ]

    def add(self, other: Index) -> Index:
        """An index of these photos and others; neither changes. Confidence holds only where both are of one dataset.

        Raises:
            UserError: if they were described by different models, or name the same photo.
        """
        if self.facts.model_sha256 != other.facts.model_sha256:
            raise UserError("the two indexes were described by different models; build one of them again")
        twice = set(self.images["image"]) & set(other.images["image"])
        if twice:
            raise UserError(f"{len(twice)} photos are in both indexes, such as {min(twice)}")
        images = pd.concat([self.images[INDEX_COLUMNS], other.images[INDEX_COLUMNS]], ignore_index=True)
        same = self.facts.dataset == other.facts.dataset
        facts = self.facts if same else replace(self.facts, dataset="")
        descriptors = np.concatenate([self.descriptors, other.descriptors])
        return replace(self, descriptors=descriptors, images=images, facts=facts)

    def save(self, folder: str | Path) -> None:
        """Write the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Aside first: an index may be saved where it was read from, and its descriptors are read as they are needed.
        part = folder / ".descriptors.npy.part"
        create_array(part, self.descriptors.shape)[:] = self.descriptors
        part.replace(folder / "descriptors.npy")
        self.images[INDEX_COLUMNS].reset_index(drop=True).to_parquet(folder / "images.parquet")
        (folder / "index.json").write_text(facts_as_json(self.facts, self.calibration), encoding="utf-8")


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
        facts, calibration = facts_of(files[2].read_text(encoding="utf-8"), files[2].name)
        images = _images(files[1])
        descriptors = _descriptors(files[0], len(images))
    except (ValueError, OSError, MemoryError, RecursionError, ArrowException) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{folder}: the index is damaged: {reason}; build it again") from None
    return Index(descriptors, images, facts, calibration)


def facts_as_json(facts: IndexFacts, calibration: Calibration | None) -> str:
    """What ``facts_of`` reads."""
    content = {**asdict(facts), "calibration": calibration.as_dict() if calibration else None}
    return json.dumps(content, indent=2) + "\n"


def facts_of(text: str, name: str) -> tuple[IndexFacts, Calibration | None]:
    """The facts and the calibration of an index.

    Args:
        text: JSON.
        name: of where it stands, for messages.

    Raises:
        ValueError: if it is anything else.
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
