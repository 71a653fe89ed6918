"""Positions of database and queries on one map."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.data.coordinates import to_degrees
from vpr.report.sections import MapSection
from vpr.retrieval.positives import has_coordinates, utm_grids, utm_of

MAX_MAP_POINTS = 4_000


def map_section(database: pd.DataFrame, queries: pd.DataFrame) -> MapSection | None:
    """The map of a set; ``None`` where positions are not known."""
    if not (has_coordinates(database) and has_coordinates(queries)):
        return None
    database_at, queries_at = _plane([database, queries])
    origin = np.minimum(database_at.min(axis=0), queries_at.min(axis=0))
    places = np.unique((database_at - origin).round(), axis=0)
    step = max(1, -(-len(places) // MAX_MAP_POINTS))
    return MapSection(
        places[::step].astype(int).tolist(),
        (queries_at - origin).round(1).tolist(),
        [round(float(v), 1) for v in origin],
        _zone([database, queries]),
    )


def _zone(parts: list[pd.DataFrame]) -> str:
    zones = {str(zone) for rows in parts for zone in rows["utm_zone"]}
    return zones.pop() if len(zones) == 1 else ""


def _plane(parts: list[pd.DataFrame]) -> list[NDArray[np.float64]]:
    """Metres east and north in one plane, also where the images are in several UTM zones."""
    zones = {zone for rows in parts for zone in utm_grids(rows["utm_zone"].to_list())}
    if len(zones) == 1:
        return [utm_of(rows) for rows in parts]
    degrees = []
    for rows in parts:
        east, north = utm_of(rows).T
        degrees.append(to_degrees(east, north, rows["utm_zone"].to_list()))
    middle = np.radians(np.nanmean(np.concatenate([lat for lat, _ in degrees])))
    return [np.stack([lon * 111_320 * np.cos(middle), lat * 111_320], axis=1) for lat, lon in degrees]
