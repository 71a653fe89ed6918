"""Places from positions: images with coordinates become places without anybody naming them.

``cells``: squares of the map, and sectors of the heading where it is known, as in Berton et al., "Rethinking Visual
Geo-localization for Large-Scale Applications", CVPR 2022, https://arxiv.org/abs/2204.02287. Neighbouring cells show
nearly the same, so cells are dealt out into groups whose members never touch, and a batch takes places of one group.

``viewpoints``: images of a square that look at the same point, as in Berton et al., "EigenPlaces: Training Viewpoint
Robust Models for Visual Place Recognition", ICCV 2023, https://arxiv.org/abs/2308.10832. The point lies beside the
street, or along it, at some distance from the middle of the square's images; the street's direction is the principal
one of their positions. Left out: cutting the views from panoramas, as an ordinary photo has one view.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vpr.config.errors import UserError
from vpr.config.params import Options
from vpr.data.manifest import TRAIN

Numbers = NDArray[np.float64]
SIDES = {"lateral": 90.0, "frontal": 0.0}  # degrees from the street's direction


class CellParams(Options):
    """How positions become places."""

    by: Literal["cells", "viewpoints"] = Field(description="`cells` (CosPlace) or `viewpoints` (EigenPlaces)")
    side_m: float = Field(gt=0, le=1e6, description="side of a square")
    sector_deg: Annotated[float, Field(gt=0, le=360)] = Field(
        description="width of a sector of the heading; of `viewpoints`, twice as far as a view may be turned from the "
        "point"
    )
    groups: int = Field(ge=1, le=100, description="every so manieth square, along each axis, is in the same group")
    sector_groups: int = Field(ge=1, le=100, description="and so is every so manieth sector; not of `viewpoints`")
    focal_m: float = Field(gt=0, le=1e4, description="of `viewpoints`: how far the point is from the square's images")

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
    """The rows of a listing, those for training with places from their positions; see ``with_places``."""
    is_train = (rows["role"] == TRAIN).to_numpy()
    if "heading" not in rows:
        rows = rows.assign(heading=np.nan)
    training = with_places(rows[is_train], params, where)
    left_out = int(is_train.sum()) - len(training)
    if left_out:
        print(f"{left_out} training images are in no place: their position or heading is not known, or they look past")
    joined = pd.concat([training, rows[~is_train]], ignore_index=True)
    joined["group"] = joined["group"].fillna("")
    return joined


def with_places(rows: pd.DataFrame, params: CellParams, where: str) -> pd.DataFrame:
    """Training rows with ``place_id`` and ``group``; without those of unknown position, and those that look past.

    Args:
        rows: with ``utm_east``, ``utm_north``, ``utm_zone`` and ``heading``.
        where: the key that asks for it, for messages.

    Raises:
        UserError: if no row has a position, or viewpoints are asked for and no row has a heading.
    """
    known = rows["utm_east"].notna() & rows["utm_north"].notna()
    if params.by == "viewpoints":
        known &= rows["heading"].notna()
    rows = rows[known].reset_index(drop=True)
    if rows.empty:
        needed = "utm_east and utm_north" + (", and heading" if params.by == "viewpoints" else "")
        raise UserError(f"{where} makes places from positions, and no training image has {needed}")
    utm = rows[["utm_east", "utm_north"]].to_numpy(dtype=float)
    heading = rows["heading"].to_numpy(dtype=float)
    square = squares(utm, params.side_m)
    zone = rows["utm_zone"].fillna("").to_numpy(dtype=object)
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
    """Numbers of the squares that positions ``(n, 2)`` in metres lie in, ``(n, 2)``."""
    return np.floor(utm / side_m).astype(np.int64)


def sectors(heading: Numbers, sector_deg: float) -> NDArray[np.int64]:
    """Numbers of the sectors of headings in degrees; -1 where the heading is not known."""
    known = np.isfinite(heading)
    found = np.floor(np.where(known, heading, 0.0) % 360 / sector_deg).astype(np.int64)
    return np.where(known, found, -1)


def viewpoints(utm: Numbers, heading: Numbers, focal_m: float, sector_deg: float) -> NDArray[np.object_]:
    """Which of a square's images look at its lateral, or at its frontal point; ``""`` for neither.

    Args:
        utm: positions of the images, ``(n, 2)`` in metres.
        heading: in degrees, clockwise from north.
        focal_m: how far a point is from the mean position.
        sector_deg: an image looks at a point if it is turned from it by at most half of this.
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
