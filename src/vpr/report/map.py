"""Build the map of database and queries."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.data.positions import Plane, Positions
from vpr.report.sections import MapSection
from vpr.retrieval.positives import has_coordinates

MAX_MAP_POINTS = 4_000


def map_section(database: pd.DataFrame, queries: pd.DataFrame) -> MapSection | None:
    """Return the map of a set; ``None`` if positions are unknown."""
    if not (has_coordinates(database) and has_coordinates(queries)):
        return None
    parts = [Positions.of(database), Positions.of(queries)]
    plane = Plane(parts)
    database_at, queries_at = map(plane.metres, parts)
    database_at, queries_at = (at[np.isfinite(at).all(axis=1)] for at in (database_at, queries_at))
    if not len(database_at) or not len(queries_at):
        return None
    origin = np.minimum(database_at.min(axis=0), queries_at.min(axis=0))
    places = np.unique((database_at - origin).round(), axis=0)
    step = max(1, -(-len(places) // MAX_MAP_POINTS))
    return MapSection(
        places[::step].astype(int).tolist(),
        (queries_at - origin).round(1).tolist(),
        [round(float(v), 1) for v in origin],
        plane.zone,
        web_mercator(origin, plane),
    )


def web_mercator(origin: NDArray[np.float64], plane: Plane) -> list[float]:
    """Return ``MapSection.mercator``, which is exact at the origin and a few metres off at 10 km."""
    lat, lon = plane.degrees(origin + np.array([[0, 0], [2000, 0], [0, 2000]]))
    if np.isnan(lat).any():
        return []
    x, y = (lon + 180) / 360, (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2
    return [v for at in (x, y) for v in (float(at[1] - at[0]) / 2000, float(at[2] - at[0]) / 2000, float(at[0]))]
