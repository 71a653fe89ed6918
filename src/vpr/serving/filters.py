"""Conditions on the database photos of an answer: a position, a time, or any condition on their columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.data.coordinates import EARTH_RADIUS_M, metres_apart
from vpr.data.timestamps import parse_since


@dataclass(frozen=True)
class Where:
    """A condition on database photos; an attribute that is ``None`` imposes no condition.

    Attributes:
        near: Latitude and longitude in degrees.
        within_m: Largest distance from ``near`` in metres.
        since: Date from which on photos are wanted, such as ``2019-06``; photos without a date are older. It is kept as
            the beginning of a plain timestamp.
        sql: Condition in SQL on the columns of an index in LanceDB.

    Raises:
        ValueError: if ``since`` is not a date.
    """

    near: tuple[float, float] | None = None
    within_m: float | None = None
    since: str | None = None
    sql: str | None = None

    def __post_init__(self) -> None:
        if self.since is not None:
            object.__setattr__(self, "since", parse_since(self.since))

    @property
    def is_empty(self) -> bool:
        """True if every photo meets the condition."""
        return self == Where()

    def mask(self, images: pd.DataFrame, lat: NDArray[Any], lon: NDArray[Any]) -> NDArray[np.bool_]:
        """Return a mask of the photos that meet the condition.

        Args:
            images: Table with ``INDEX_COLUMNS``.
            lat, lon: Positions in degrees.

        Raises:
            UserError: for a condition in SQL, which only an index in LanceDB supports.
        """
        if self.sql is not None:
            raise UserError("--where needs an index in LanceDB: build it with `vpr index --store lance`")
        fits = np.ones(len(images), dtype=bool)
        if self.near is not None:
            at = np.array([self.near[0]]), np.array([self.near[1]])
            with np.errstate(invalid="ignore"):
                fits &= metres_apart(lat, lon, *at) <= (self.within_m or 0)
        if self.since is not None:
            fits &= (images["timestamp"] >= self.since).to_numpy()
        return fits

    def as_sql(self) -> str | None:
        """Return the condition for LanceDB, with the same formula for the distance; ``None`` if it is empty."""
        parts = [] if self.sql is None else [f"({self.sql})"]
        if self.near is not None:
            (lat, lon), angle = self.near, (self.within_m or 0) / EARTH_RADIUS_M
            reach, half = np.degrees(angle) + 1e-9, float(np.sin(min(angle, np.pi) / 2))
            north = f"sin(radians(lat - {lat!r}) / 2)"
            east = f"sin(radians(lon - {lon!r}) / 2)"
            parts += [f"lat BETWEEN {float(lat - reach)!r} AND {float(lat + reach)!r}"]
            scale = float(np.cos(np.radians(lat)))
            parts += [f"{north} * {north} + {scale!r} * cos(radians(lat)) * {east} * {east} <= {half**2!r}"]
        if self.since is not None:
            parts.append(f"timestamp >= '{self.since}'")
        return " AND ".join(parts) or None


ANYWHERE = Where()


def parse_where(near: str | None, within_m: float | None, since: str | None, sql: str | None) -> Where:
    """Return the condition that a command's options describe.

    Raises:
        UserError: if ``near`` or ``since`` cannot be parsed, or only one of ``near`` and ``within_m`` is given.
    """
    position = None
    if (near is None) != (within_m is None):
        raise UserError("--near and --within go together: --near LAT,LON --within METRES")
    if near is not None:
        try:
            lat, lon = (float(part) for part in near.split(","))
        except ValueError:
            raise UserError(f"--near is {near!r}; expected LAT,LON in degrees, such as 45.4642,9.19") from None
        if not (-90 <= lat <= 90 and -180 <= lon <= 180):
            raise UserError(f"--near is {near!r}, which is not a position on earth; are LAT and LON swapped?")
        if within_m is None or not 0 < within_m < 1e7:
            raise UserError(f"--within is {within_m}; expected metres above 0 and below 10,000,000")
        position = (lat, lon)
    try:
        return Where(position, within_m, since, sql)
    except ValueError as error:
        raise UserError(f"--since: {error}") from None
