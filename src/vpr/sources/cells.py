"""Make training places from the positions of images.

``cells`` are squares of the map, divided into sectors of the heading if it is known, as in Berton et al., "Rethinking
Visual Geo-localization for Large-Scale Applications", CVPR 2022, https://arxiv.org/abs/2204.02287. Adjacent cells show
nearly the same scene, so each group of cells has no two adjacent ones, and a batch takes places of one group.

``viewpoints`` are the images of a square that look at the same point, as in Berton et al., "EigenPlaces: Training
Viewpoint Robust Models for Visual Place Recognition", ICCV 2023, https://arxiv.org/abs/2308.10832. The point lies
beside the street, or along it, at a fixed distance from the mean position of the square's images. The street's
direction is the principal axis of their positions. Unlike the paper, views are not cut from panoramas.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vpr.config.errors import UserError
from vpr.config.params import Options
from vpr.data.coordinates import plain_zones
from vpr.data.manifest import TRAIN
from vpr.data.positions import Positions, one_grid_where_near

Numbers = NDArray[np.float64]
SIDES = {"lateral": 90.0, "frontal": 0.0}  # degrees from the street's direction


class CellParams(Options):
    """Options for making places from positions."""

    by: Literal["cells", "viewpoints"] = Field(description="`cells` (CosPlace) or `viewpoints` (EigenPlaces)")
    side_m: float = Field(gt=0, le=1e6, description="side of a square, in metres")
    sector_deg: Annotated[float, Field(gt=0, le=360)] = Field(
        description="width of a sector of the heading, in degrees; for `viewpoints`, twice the largest angle between "
        "an image's heading and the point"
    )
    groups: int = Field(ge=1, le=100, description="squares whose indices are equal modulo this number form a group")
    sector_groups: int = Field(
        ge=1,
        le=100,
        description="sectors whose indices are equal modulo this number form a group; unused by `viewpoints`",
    )
    focal_m: float = Field(
        gt=0, le=1e4, description="for `viewpoints`, distance of the point from the square's images, in metres"
    )

    @model_validator(mode="after")
    def _sectors_fit(self) -> CellParams:
        turn = 360 / (self.sector_deg * self.sector_groups)
        if self.by == "cells" and abs(turn - round(turn)) > 1e-9:
            raise ValueError(
                f"sector_deg is {self.sector_deg:g} and sector_groups {self.sector_groups}: the last sector would "
                "touch the first of its group; their product has to divide 360"
            )
        return self


def places_of_training(rows: pd.DataFrame, params: CellParams, where: str) -> pd.DataFrame:
    """Return the rows of a listing with places for the training images; see ``with_places``."""
    is_train = (rows["role"] == TRAIN).to_numpy()
    if "heading" not in rows:
        rows = rows.assign(heading=np.nan)
    training = with_places(rows[is_train], params, where)
    left_out = int(is_train.sum()) - len(training)
    if left_out:
        print(f"{left_out} training images are in no place: position or heading is missing, or no viewpoint is in view")
    joined = pd.concat([training, rows[~is_train]], ignore_index=True)
    joined["group"] = joined["group"].fillna("")
    return joined


def with_places(rows: pd.DataFrame, params: CellParams, where: str) -> pd.DataFrame:
    """Return training rows with ``place_id`` and ``group``.

    Rows without a position are left out, and with ``viewpoints`` rows that look at neither point.

    Args:
        rows: Rows with ``utm_east``, ``utm_north``, ``utm_zone`` and ``heading``.
        params: Options.
        where: Key in error messages.

    Raises:
        UserError: if no row has a position, or viewpoints are asked for and no row has a heading.
    """
    known = rows["utm_east"].notna() & rows["utm_north"].notna()
    if params.by == "viewpoints":
        known &= rows["heading"].notna()
    rows = rows[known].reset_index(drop=True)
    zones = plain_zones(rows["utm_zone"].fillna("").to_list(), rows["utm_north"].to_numpy(dtype=float))
    rows = rows.assign(utm_zone=zones)
    if rows.empty:
        needed = "utm_east and utm_north" + (", and heading" if params.by == "viewpoints" else "")
        raise UserError(f"{where} makes places from positions, and no training image has {needed}")
    # Two cells of a group are at least groups - 1 squares apart, which needs one raster for all nearby images.
    positions = one_grid_where_near(Positions.of(rows), 1.5 * params.groups * params.side_m)
    utm, zone = positions.utm, positions.zones
    heading = rows["heading"].to_numpy(dtype=float)
    square = squares(utm, params.side_m)
    if params.by == "cells":
        sector = sectors(heading, params.sector_deg)
        return _named(rows, zone, square, sector.astype(str), params.groups, sector % params.sector_groups)
    view = np.full(len(rows), "", dtype=object)
    by_square = pd.DataFrame({"zone": zone, "east": square[:, 0], "north": square[:, 1]})
    for members in by_square.groupby(list(by_square)).indices.values():
        view[members] = viewpoints(utm[members], heading[members], params.focal_m, params.sector_deg)
    seen = view != ""
    side = np.array([list(SIDES).index(name) if name else 0 for name in view])
    return _named(rows[seen].reset_index(drop=True), zone[seen], square[seen], view[seen], params.groups, side[seen])


def _named(
    rows: pd.DataFrame,
    zone: NDArray[np.object_],
    square: NDArray[np.int64],
    view: NDArray[np.object_] | NDArray[np.str_],
    groups: int,
    turn: NDArray[np.int64],
) -> pd.DataFrame:
    places = [f"{z}/{e}_{n}_{v}" for z, (e, n), v in zip(zone, square.tolist(), view.tolist(), strict=True)]
    group = [f"{e % groups}_{n % groups}_{t}" for (e, n), t in zip(square.tolist(), turn.tolist(), strict=True)]
    return rows.assign(place_id=places, group=group)


def squares(utm: Numbers, side_m: float) -> NDArray[np.int64]:
    """Return the indices of squares ``(n, 2)`` for positions ``(n, 2)`` in metres."""
    return np.floor(utm / side_m).astype(np.int64)


def sectors(heading: Numbers, sector_deg: float) -> NDArray[np.int64]:
    """Return the indices of sectors for headings in degrees; -1 if the heading is unknown."""
    known = np.isfinite(heading)
    found = np.floor(np.where(known, heading, 0.0) % 360 / sector_deg).astype(np.int64)
    return np.where(known, found, -1)


def viewpoints(utm: Numbers, heading: Numbers, focal_m: float, sector_deg: float) -> NDArray[np.object_]:
    """Return ``lateral``, ``frontal`` or ``""`` for each image of a square: the point that it looks at.

    Args:
        utm: Positions of the images, ``(n, 2)``, in metres.
        heading: Headings in degrees, clockwise from north.
        focal_m: Distance of the points from the mean position, in metres.
        sector_deg: Twice the largest angle between the heading and the direction to the point.
    """
    middle = utm.mean(axis=0)
    _, _, axes = np.linalg.svd(utm - middle, full_matrices=True)
    east, north = axes[0] * (1 if axes[0][1] > 0 or (axes[0][1] == 0 and axes[0][0] > 0) else -1)
    street = np.degrees(np.arctan2(east, north))
    found = np.full(len(utm), "", dtype=object)
    for name, turn in SIDES.items():
        bearing = np.radians(street + turn)
        point = middle + focal_m * np.array([np.sin(bearing), np.cos(bearing)])
        to_point = np.degrees(np.arctan2(*(point - utm).T))
        off = np.abs((heading - to_point + 180) % 360 - 180)
        found[(off <= sector_deg / 2) & (found == "")] = name
    return found
