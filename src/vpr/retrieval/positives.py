"""Find the positives of each query: by distance, by place, or from lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.data.coordinates import to_degrees

Positives = list[NDArray[np.int64]]


def positives_of(database: pd.DataFrame, queries: pd.DataFrame, radius_m: float) -> Positives | None:
    """Return the positives of each query, or ``None`` for an unlabelled set.

    Args:
        database, queries: Manifest rows.
        radius_m: Largest distance of a positive, in metres.
    """
    kind = positive_rule(database, queries)
    if kind == "listed":
        index = {frame: k for k, frame in enumerate(database["frame"])}
        listed = (text.split() for text in queries["positive_frames"])
        return [np.array(sorted(index[f] for f in frames if f in index), dtype=np.int64) for frames in listed]
    if kind == "distance":
        return positives_within(
            utm_of(database),
            utm_of(queries),
            radius_m,
            database["utm_zone"].to_list(),
            queries["utm_zone"].to_list(),
        )
    if kind == "place id":
        # An image without a place has no positives, and none of the others is a positive of it.
        known = [place if place else f"\0{k}" for k, place in enumerate(queries["place_id"])]
        return positives_by_place(database["place_id"].to_list(), known)
    return None


def positive_rule(database: pd.DataFrame, queries: pd.DataFrame) -> Literal["listed", "distance", "place id", "none"]:
    """Return what defines the positives of a set: lists of frames, else coordinates, else place ids, else nothing."""
    if "frame" in database and "positive_frames" in queries and (queries["positive_frames"] != "").any():
        return "listed"
    if has_coordinates(database) and has_coordinates(queries):
        return "distance"
    if (database["place_id"] != "").any() and (queries["place_id"] != "").any():
        return "place id"
    return "none"


def has_coordinates(rows: pd.DataFrame) -> bool:
    """Return whether every row has UTM coordinates."""
    return len(rows) > 0 and bool(np.isfinite(utm_of(rows)).all())


def utm_of(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return UTM east and north, ``(number, 2)``."""
    return rows[["utm_east", "utm_north"]].to_numpy(dtype=np.float64)


def in_one_plane(parts: Sequence[pd.DataFrame]) -> list[NDArray[np.float64]]:
    """Return metres east and north ``(number, 2)`` in one plane, for drawing images of one or several UTM zones."""
    zones = {zone for rows in parts for zone in utm_grids(rows["utm_zone"].to_list())}
    if len(zones) == 1:
        return [utm_of(rows) for rows in parts]
    degrees = []
    for rows in parts:
        east, north = utm_of(rows).T
        degrees.append(to_degrees(east, north, rows["utm_zone"].to_list()))
    middle = np.radians(np.nanmean(np.concatenate([lat for lat, _ in degrees])))
    return [np.stack([lon * 111_320 * np.cos(middle), lat * 111_320], axis=1) for lat, lon in degrees]


def positives_within(
    database_utm: NDArray[np.float64],
    query_utm: NDArray[np.float64],
    radius_m: float,
    database_zone: Sequence[str] | None = None,
    query_zone: Sequence[str] | None = None,
) -> Positives:
    """Find the database images at most ``radius_m`` away from each query.

    Args:
        database_utm, query_utm: UTM east and north in metres, ``(number, 2)``.
        radius_m: Radius in metres.
        database_zone, query_zone: UTM zones such as ``32T``. Positions whose zones differ in number or hemisphere are
            never near each other.

    Returns:
        The sorted database indices for each query.
    """
    from scipy.spatial import cKDTree  # slow to import

    database_keys = utm_grids(database_zone if database_zone is not None else [""] * len(database_utm))
    query_keys = utm_grids(query_zone if query_zone is not None else [""] * len(query_utm))
    positives: Positives = [np.empty(0, dtype=np.int64) for _ in range(len(query_utm))]
    for zone in np.unique(query_keys):
        inside = np.flatnonzero(database_keys == zone)
        asked = np.flatnonzero(query_keys == zone)
        if len(inside) == 0:
            continue
        found = cKDTree(database_utm[inside]).query_ball_point(query_utm[asked], radius_m)
        for query, near in zip(asked, found, strict=True):
            positives[query] = np.sort(inside[np.asarray(near, dtype=np.int64)])
    return positives


def utm_grids(zones: Sequence[str]) -> NDArray[np.str_]:
    """Return the coordinate grid of each UTM zone: its number and hemisphere, without the latitude band."""
    return np.array(
        [zone and zone.rstrip("CDEFGHJKLMNPQRSTUVWX") + ("N" if zone[-1] >= "N" else "S") for zone in zones]
    )


def positives_by_place(database_place: Sequence[str], query_place: Sequence[str]) -> Positives:
    """Find the database images of the same place as each query."""
    members: dict[str, list[int]] = {}
    for index, place in enumerate(database_place):
        members.setdefault(place, []).append(index)
    return [np.array(members.get(place, []), dtype=np.int64) for place in query_place]
