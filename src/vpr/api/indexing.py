"""An index from Python: ``vpr.Index``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.api.models import Model
from vpr.config.errors import UserError
from vpr.data.coordinates import on_earth, to_utm
from vpr.localization.index import Index as SavedIndex
from vpr.localization.index import IndexFacts, load_index
from vpr.localization.photo_folder import located_photos
from vpr.sources.custom import photos_with_positions


class Index(SavedIndex):
    """A database of described photos, to locate others in. It is made by ``build``, ``of`` or ``load``."""

    @classmethod
    def build(cls, photos: str | Path, model: Model, radius_m: float = 25.0, show_progress: bool = False) -> Self:
        """An index of photos whose position is in a table, in their names or in their EXIF tags.

        Args:
            photos: a folder, or a table as ``datasets.custom`` takes it.
            model: that describes them.
            radius_m: two photos within it show the same place.
            show_progress: on stderr.

        Raises:
            UserError: if no photo has a position.
        """
        folder, rows = located_in(Path(photos))
        descriptors = model.describe([folder / image for image in rows["image"]], show_progress=show_progress)
        return cls(descriptors, rows, IndexFacts(model.sha256, "", str(photos), radius_m), None)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        descriptors: NDArray[np.float32],
        model: Model,
        lat: Sequence[float] | None = None,
        lon: Sequence[float] | None = None,
        radius_m: float = 25.0,
    ) -> Self:
        """An index of descriptors that are there already.

        Args:
            names: of the photos.
            descriptors: ``(number, D)``, by ``model``.
            lat, lon: where they were taken, in degrees; without, answers name photos and no positions.

        Raises:
            UserError: if numbers do not fit each other.
        """
        numbers = {len(names), len(descriptors), len(names if lat is None else lat), len(names if lon is None else lon)}
        if len(numbers) > 1 or (lat is None) != (lon is None):
            raise UserError(f"a name, a descriptor, lat and lon of each photo are needed; there are {sorted(numbers)}")
        rows = pd.DataFrame({"image": list(names), "place_id": "", "heading": np.nan, "timestamp": ""})
        east, north, zones = np.full(len(rows), np.nan), np.full(len(rows), np.nan), [""] * len(rows)
        if lat is not None and lon is not None:
            degrees = np.asarray(lat, dtype=float), np.asarray(lon, dtype=float)
            wrong = np.flatnonzero(~on_earth(*degrees))
            if len(wrong):
                where = f"lat {degrees[0][wrong[0]]}, lon {degrees[1][wrong[0]]}"
                raise UserError(f"{names[wrong[0]]} has {where}, which is nowhere that UTM covers")
            east, north, zones = to_utm(*degrees)
        rows = rows.assign(utm_east=east, utm_north=north, utm_zone=zones)
        return cls(np.asarray(descriptors, np.float32), rows, IndexFacts(model.sha256, "", "", radius_m), None)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            UserError: if it is not such a folder, or its files do not fit each other.
        """
        found = load_index(Path(folder))
        return cls(found.descriptors, found.images, found.facts, found.calibration)


def located_in(photos: Path) -> tuple[Path, pd.DataFrame]:
    """The folder of a folder's or a table's photos, and ``located_photos`` of them.

    Raises:
        UserError: if it is not there, or no photo has a position.
    """
    if not photos.exists():
        raise UserError(f"{photos}: no such folder or table")
    if photos.is_dir():
        return photos, located_photos(photos)
    return photos.parent, located_photos(photos.parent, photos_with_positions(photos))
