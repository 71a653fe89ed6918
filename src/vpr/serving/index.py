"""A database of described photos that can be searched: ``vpr.Index``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.data.coordinates import on_earth, to_utm
from vpr.data.positions import Positions
from vpr.descriptors.trained_model import Model
from vpr.localization.confidence import Calibration
from vpr.localization.index_files import INDEX_COLUMNS, IndexFacts, read_calibration, read_index, write_index
from vpr.retrieval.search import exact_index, search, search_in
from vpr.serving.filters import ANYWHERE, Where
from vpr.serving.located_photos import located_photos

DEFAULT_RADIUS_M = 25.0  # usual in the field


@dataclass(frozen=True)
class Found:
    """The nearest photos of a query.

    Attributes:
        images: Table with ``INDEX_COLUMNS``, ``lat`` and ``lon``, nearest first.
        distances: Distances of the descriptors, ``(number,)``.
    """

    images: pd.DataFrame
    distances: NDArray[np.float32]


class Database(Protocol):
    """A database that photos are located in: an ``Index``, or an index in LanceDB."""

    @property
    def facts(self) -> IndexFacts: ...

    @property
    def calibration(self) -> Calibration | None: ...

    @property
    def descriptor_dim(self) -> int: ...

    def search(self, queries: NDArray[np.float32], k: int, where: Where) -> list[Found]:
        """Return the nearest ``k`` photos of each query that meet a condition, or fewer if there are fewer."""


@dataclass(frozen=True)
class Index:
    """A described photo collection that can be searched. Use ``build``, ``of`` or ``load`` to make one.

    Attributes:
        descriptors: Descriptors ``(number, D)``, rows of unit norm.
        images: Table with ``INDEX_COLUMNS``, a row for each descriptor.
        facts: Model, name and radius of the index.
        calibration: Calibration of the confidence; ``None`` if there is none.
    """

    descriptors: NDArray[np.float32]
    images: pd.DataFrame
    facts: IndexFacts
    calibration: Calibration | None

    @classmethod
    def build(
        cls,
        photos: str | Path,
        model: Model,
        radius_m: float | None = None,
        show_progress: bool = False,
        calibrated: Path | None = None,
        batch_size: int | None = None,
        num_workers: int | None = 0,
    ) -> Self:
        """Describe photos whose positions are in a table, in their names or in their EXIF tags.

        Args:
            photos: A folder, or a table as ``datasets.custom`` takes it.
            model: Model that describes the photos.
            radius_m: Two photos within this distance show the same place; by default that of ``calibrated``, or 25 m.
            show_progress: Show progress on stderr.
            calibrated: Index of the same model whose calibration is reused.
            batch_size: Photos at a time; by default as many as suit the device.
            num_workers: Loader processes; ``None`` for one less than the cores, at most 8.

        Raises:
            UserError: if no photo has a position, or ``calibrated`` has another model or radius.
        """
        facts, calibration = facts_of(str(photos), model, radius_m, calibrated)
        folder, rows = located_photos(Path(photos))
        images = model.images(folder, rows["image"])
        return cls(model.describe(images, batch_size, show_progress, num_workers), rows, facts, calibration)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        descriptors: NDArray[np.float32],
        model: Model,
        lat: Sequence[float] | None = None,
        lon: Sequence[float] | None = None,
        radius_m: float = DEFAULT_RADIUS_M,
    ) -> Self:
        """Make an index of descriptors that exist already.

        Args:
            names: Names of the photos.
            descriptors: Their descriptors ``(number, D)``.
            model: Model that made the descriptors.
            lat, lon: Positions in degrees; without them, answers name photos but no positions.
            radius_m: Two photos within this distance show the same place.

        Raises:
            UserError: if the arguments differ in length, or a position is outside the area that UTM covers.
        """
        numbers = {len(names), len(descriptors), len(names if lat is None else lat), len(names if lon is None else lon)}
        if len(numbers) > 1 or (lat is None) != (lon is None):
            raise UserError(f"names, descriptors, lat and lon must have the same length, but have {sorted(numbers)}")
        rows = pd.DataFrame({"image": list(names), "place_id": "", "heading": np.nan, "timestamp": ""})
        east, north, zones = np.full(len(rows), np.nan), np.full(len(rows), np.nan), [""] * len(rows)
        if lat is not None and lon is not None:
            degrees = np.asarray(lat, dtype=float), np.asarray(lon, dtype=float)
            wrong = np.flatnonzero(~on_earth(*degrees))
            if len(wrong):
                where = f"lat {degrees[0][wrong[0]]}, lon {degrees[1][wrong[0]]}"
                raise UserError(f"{names[wrong[0]]} has {where}, which is outside the area that UTM covers")
            east, north, zones = to_utm(*degrees)
        rows = rows.assign(utm_east=east, utm_north=north, utm_zone=zones)
        return cls(np.asarray(descriptors, np.float32), rows, IndexFacts(model.sha256, "", "", radius_m), None)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read an index from a folder.

        Raises:
            UserError: if the folder holds no index, or its files are damaged or do not belong together.
        """
        return cls(*read_index(Path(folder)))

    def save(self, folder: str | Path) -> None:
        """Write the index into a folder."""
        write_index(Path(folder), self.descriptors, self.images, self.facts, self.calibration)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def descriptor_dim(self) -> int:
        """Size of a descriptor, D."""
        return int(self.descriptors.shape[1])

    @cached_property
    def degrees(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude of each photo; NaN if its zone is unknown."""
        return Positions.of(self.images).degrees

    @cached_property
    def _exact(self) -> Any:
        return exact_index(self.descriptors)

    def search(self, queries: NDArray[np.float32], k: int = 5, where: Where = ANYWHERE) -> list[Found]:
        """Return the nearest ``k`` photos of each query ``(number, D)`` that meet a condition."""
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
        """Return an index of the photos of both; its confidence holds only if both are of one dataset.

        Raises:
            UserError: if different models described them, or a photo is in both.
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


def facts_of(
    name: str, model: Model, radius_m: float | None, calibrated: Path | None
) -> tuple[IndexFacts, Calibration | None]:
    """Return the facts of a new index, and the calibration that it reuses.

    Args:
        name: Name of the photos.
        model: Model that describes the photos.
        radius_m: Two photos within this distance show the same place; ``None`` for that of ``calibrated``, or 25 m.
        calibrated: Index of the same model whose calibration is reused; ``None`` for none.

    Raises:
        UserError: if ``calibrated`` has another model or another radius, or the radius is not positive.
    """
    if radius_m is not None and not 0 < radius_m < math.inf:
        raise UserError(f"the radius is {radius_m:g}; expected metres above 0")
    if calibrated is None:
        return IndexFacts(model.sha256, "", name, DEFAULT_RADIUS_M if radius_m is None else radius_m), None
    other, calibration = read_calibration(calibrated)
    if other.model_sha256 != model.sha256:
        raise UserError(
            f"{calibrated} belongs to another model than {model.checkpoint}, so its confidence does not apply"
        )
    if radius_m not in (None, other.radius_m):
        raise UserError(
            f"the confidence in {calibrated} is for {other.radius_m:g} m, not {radius_m:g}; leave out --radius-m"
        )
    return IndexFacts(model.sha256, "", name, other.radius_m), calibration
