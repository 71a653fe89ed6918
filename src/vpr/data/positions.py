"""Decide what is near: the one definition of distance that everything uses.

Two positions of the same UTM grid, a zone's number and hemisphere, are as far apart as their UTM coordinates. Positions
of different grids are compared on the Earth itself, so a border between zones, the equator and the date line separate
nothing. Positions without a zone are metres on a map, and are compared only with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.data.coordinates import EARTH_RADIUS_M, Numbers, is_zone, to_degrees, to_geocentric, to_grid

Neighbours = list[NDArray[np.int64]]
_TOUCHING = 1.75  # cubes of side 1 whose corners touch are 3**0.5 apart


@dataclass(frozen=True)
class Positions:
    """Positions of images.

    Attributes:
        utm: East and north in metres, ``(number, 2)``; NaN if they are unknown.
        zones: UTM zone of each position, such as ``32T``; ``""`` for metres on a map.
    """

    utm: Numbers
    zones: NDArray[np.object_]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Positions:
        """Return the positions of a table with ``utm_east``, ``utm_north`` and ``utm_zone``."""
        return cls(
            rows[["utm_east", "utm_north"]].to_numpy(dtype=np.float64),
            rows["utm_zone"].fillna("").to_numpy(dtype=object),
        )

    def __len__(self) -> int:
        return len(self.utm)

    def __getitem__(self, indices: Any) -> Positions:
        return Positions(self.utm[indices], self.zones[indices])

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Mask of the positions that are known."""
        return np.asarray(np.isfinite(self.utm).all(axis=1))

    @cached_property
    def grids(self) -> NDArray[np.str_]:
        """Grid of each position, such as ``32N``; ``""`` for metres on a map."""
        names, inverse = np.unique(self.zones.astype(str), return_inverse=True)
        return np.array([_grid(name) for name in names], dtype=str)[inverse]

    @cached_property
    def degrees(self) -> tuple[Numbers, Numbers]:
        """Latitude and longitude; NaN if they are unknown."""
        return to_degrees(self.utm[:, 0], self.utm[:, 1], self.zones.tolist())

    @cached_property
    def geocentric(self) -> Numbers:
        """Metres from the centre of the Earth, ``(number, 3)``; NaN if they are unknown."""
        return to_geocentric(*self.degrees)

    def metres_to(self, other: Positions) -> Numbers:
        """Return the distance of each position from the corresponding one of ``other``; infinite if it is unknown."""
        metres = np.hypot(*(self.utm - other.utm).T)
        across = np.flatnonzero(self.grids != other.grids)
        if len(across):
            chord = np.linalg.norm(self[across].geocentric - other[across].geocentric, axis=1)
            metres[across] = 2 * EARTH_RADIUS_M * np.arcsin(np.minimum(chord / (2 * EARTH_RADIUS_M), 1.0))
        return np.where(np.isnan(metres), np.inf, metres)

    def in_grid_of(self, zone: str) -> Numbers:
        """Return east and north in the grid of a zone, ``(number, 2)``; NaN for what cannot be converted to it."""
        grid, found = _grid(zone), self.utm.copy()
        other = np.flatnonzero((self.grids != grid) & self.known)
        found[other] = np.nan
        if not len(other) or not is_zone(zone):
            return found
        lat, lon = self[other].degrees
        on_earth = np.isfinite(lat)
        if on_earth.any():
            there = to_grid(lat[on_earth], lon[on_earth], int(grid[:-1]), grid.endswith("N"))
            found[other[on_earth]] = np.stack(there, axis=1)
        return found


def _grid(zone: str) -> str:
    return f"{zone[:-1]}{'N' if zone[-1] >= 'N' else 'S'}" if is_zone(zone) else zone


def near(database: Positions, queries: Positions, radius_m: float) -> Neighbours:
    """Return the sorted numbers of the database positions at most ``radius_m`` metres away from each query."""
    from scipy.spatial import cKDTree  # slow to import

    found: Neighbours = [np.empty(0, dtype=np.int64) for _ in range(len(queries))]

    def search(points: Numbers, inside: NDArray[np.int64], asked: Numbers, of: NDArray[np.int64], reach: float) -> Any:
        if not len(inside) or not len(of):
            return ()
        hits = cKDTree(points[inside]).query_ball_point(asked[of], reach)
        return ((query, inside[np.asarray(hit, dtype=np.int64)]) for query, hit in zip(of, hits, strict=True))

    for grid in np.unique(queries.grids):
        inside = np.flatnonzero((database.grids == grid) & database.known)
        asked = np.flatnonzero((queries.grids == grid) & queries.known)
        for query, hit in search(database.utm, inside, queries.utm, asked, radius_m):
            found[query] = np.sort(hit)
    if len({*database.grids, *queries.grids} - {""}) > 1:
        chord = 2 * EARTH_RADIUS_M * np.sin(min(radius_m / (2 * EARTH_RADIUS_M), np.pi / 2))
        points, others = database.geocentric, queries.geocentric
        inside, asked = (np.flatnonzero(np.isfinite(part).all(axis=1)) for part in (points, others))
        for query, hit in search(points, inside, others, asked, chord):
            across = hit[database.grids[hit] != queries.grids[query]]
            if len(across):
                found[query] = np.sort(np.concatenate([found[query], across]))
    return found


def one_grid_where_near(positions: Positions, link_m: float) -> Positions:
    """Return positions in which those near each other share a grid, so that one raster covers a town.

    Positions that a chain of steps of at most ``link_m`` metres connects are put into their most frequent zone. Those
    of a single grid stay as they are.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    names = np.unique(positions.zones)
    if len(names) <= 1:
        return positions
    if len(np.unique(positions.grids)) == 1:
        parts = np.zeros(len(positions), dtype=np.int64)
    else:  # cubes stand for the photos in them, of which there may be many
        on_map = np.c_[positions.utm, np.full(len(positions), 1e9)]  # far from the Earth
        points = np.where(np.isfinite(positions.geocentric), positions.geocentric, on_map)
        cubes, of = np.unique(np.floor(points / link_m), axis=0, return_inverse=True)
        pairs = cKDTree(cubes).query_pairs(_TOUCHING, output_type="ndarray")
        links = coo_array((np.ones(len(pairs), dtype=bool), pairs.T), shape=(len(cubes),) * 2)
        parts = connected_components(links, directed=False)[1][of.ravel()]
    utm, zones = positions.utm.copy(), positions.zones.copy()
    order = np.argsort(parts, kind="stable")
    for here in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1):
        used, counts = np.unique(positions.zones[here].astype(str), return_counts=True)
        if len(used) > 1:
            zones[here] = zone = str(used[counts.argmax()])
            utm[here] = positions[here].in_grid_of(zone)
    return Positions(utm, zones)


class Plane:
    """A plane to draw positions in.

    Args:
        parts: All positions to draw.

    Attributes:
        zone: Most frequent zone if all positions are in one grid, whose coordinates are then those of the plane;
            otherwise ``""``, and coordinates are metres from a centre.
    """

    def __init__(self, parts: Sequence[Positions]) -> None:
        zones = np.concatenate([part.zones[part.known] for part in parts]).astype(str)
        grids = {grid for part in parts for grid in part.grids[part.known]}
        self.zone, self._centre = "", None
        if len(grids) == 1:
            names, counts = np.unique(zones, return_counts=True)
            self.zone = str(names[counts.argmax()])
        elif grids:
            x, y, _ = np.nanmean(np.concatenate([part.geocentric for part in parts]), axis=0)
            lat = np.nanmean(np.concatenate([part.degrees[0] for part in parts]))
            self._centre = float(lat), float(np.degrees(np.arctan2(y, x)))

    def metres(self, positions: Positions) -> Numbers:
        """Return metres east and north, ``(number, 2)``; NaN if they are unknown."""
        if self._centre is None:
            return positions.in_grid_of(self.zone) if self.zone else positions.utm
        (lat, lon), (middle_lat, middle_lon) = positions.degrees, self._centre
        east = (lon - middle_lon + 180) % 360 - 180
        scale = np.radians(EARTH_RADIUS_M)
        return np.stack([east * scale * np.cos(np.radians(middle_lat)), (lat - middle_lat) * scale], axis=1)

    def degrees(self, metres: Numbers) -> tuple[Numbers, Numbers]:
        """Return latitude and longitude of points ``(number, 2)`` of the plane; NaN for metres on a map."""
        if self._centre is None:
            return to_degrees(metres[:, 0], metres[:, 1], [self.zone] * len(metres))
        middle_lat, middle_lon = self._centre
        scale = np.radians(EARTH_RADIUS_M)
        lon = middle_lon + metres[:, 0] / (scale * np.cos(np.radians(middle_lat)))
        return middle_lat + metres[:, 1] / scale, (lon + 180) % 360 - 180
