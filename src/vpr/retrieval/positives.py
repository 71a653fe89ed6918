"""Find the positives of each query: by distance, by place, or from lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.data.positions import Positions, near

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
        return near(Positions.of(database), Positions.of(queries), radius_m)
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
    return len(rows) > 0 and bool(Positions.of(rows).known.all())


def positives_by_place(database_place: Sequence[str], query_place: Sequence[str]) -> Positives:
    """Find the database images of the same place as each query."""
    members: dict[str, list[int]] = {}
    for index, place in enumerate(database_place):
        members.setdefault(place, []).append(index)
    return [np.array(members.get(place, []), dtype=np.int64) for place in query_place]
