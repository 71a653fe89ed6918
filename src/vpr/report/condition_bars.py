"""Recall by the conditions of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.data.positions import Positions
from vpr.evaluation.conditions import condition_columns
from vpr.report.sections import ConditionBars, ConditionValue
from vpr.retrieval.positives import Positives, has_coordinates

DISTANCE_BINS_M = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
HEADING_BINS_DEG = (0, 15, 30, 60, 90, 180)
SAME_WAY_DEG = 45


def wilson(successes: int, number: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share (Wilson, 1927)."""
    if number == 0:
        return 0.0, 1.0
    share = successes / number
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * np.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def query_conditions(
    queries: pd.DataFrame, database: pd.DataFrame, positives: Positives | None
) -> dict[str, pd.Series]:
    """Return the conditions of each query as text: columns, and distance and heading of the nearest positive."""
    known = {column: queries[column].fillna("").astype(str) for column in condition_columns(queries)}
    nearest = [near or NOTHING_NEAR for near in nearest_positives(database, queries, positives)]
    for title, values, edges, unit in (
        ("distance to the nearest positive", [near.metres for near in nearest], DISTANCE_BINS_M, "m"),
        ("heading difference to the nearest positive", [near.turn_deg for near in nearest], HEADING_BINS_DEG, "°"),
    ):
        if np.isfinite(values).any():
            known[title] = pd.Series([_bin(v, edges, unit) for v in values])
    return known


@dataclass(frozen=True)
class Nearest:
    """The nearest positive of a query, preferably with a similar heading.

    Attributes:
        row: Row of the database.
        metres: Distance; NaN if it is unknown.
        turn_deg: Difference of the headings; NaN if it is unknown.
    """

    row: int
    metres: float
    turn_deg: float


NOTHING_NEAR = Nearest(-1, np.nan, np.nan)


def nearest_positives(
    database: pd.DataFrame, queries: pd.DataFrame, positives: Positives | None
) -> list[Nearest | None]:
    """Return the nearest positive of each query; ``None`` if it has none or the set is unlabelled."""
    if positives is None:
        return [None] * len(queries)
    if not (has_coordinates(database) and has_coordinates(queries)):
        return [Nearest(int(near[0]), np.nan, np.nan) if len(near) else None for near in positives]
    positions, asked = Positions.of(database), Positions.of(queries)
    headings, own = (rows["heading"].to_numpy(dtype=float) for rows in (database, queries))
    found: list[Nearest | None] = []
    for q, near in enumerate(positives):
        if not len(near):
            found.append(None)
            continue
        apart = positions[near].metres_to(asked[np.full(len(near), q)])
        turns = np.abs((headings[near] - own[q] + 180) % 360 - 180)
        best = int((apart + 1e6 * (turns > SAME_WAY_DEG)).argmin())
        found.append(Nearest(int(near[best]), float(apart[best]), float(turns[best])))
    return found


def condition_bars(conditions: dict[str, pd.Series], first_positive: NDArray[np.int64]) -> list[ConditionBars]:
    """Return recall@1 by the values of each condition with several values."""
    bars = []
    for title, values in conditions.items():
        rows = []
        for value in sorted(set(values) - {""}, key=lambda text: (_leading_number(text), text)):
            chosen = (values == value).to_numpy()
            found, number = int((first_positive[chosen] == 1).sum()), int(chosen.sum())
            low, high = wilson(found, number)
            rows.append(ConditionValue(value, number, found / number, round(low, 4), round(high, 4)))
        if len(rows) > 1:
            bars.append(ConditionBars(title, rows))
    return bars


def as_codes(values: pd.Series) -> dict[str, Any]:
    """Return a column as distinct values and a number for each row; -1 if the value is unknown."""
    categories = sorted(set(values) - {""})
    index = {value: k for k, value in enumerate(categories)}
    return {"values": categories, "codes": [index.get(value, -1) for value in values]}


def _bin(value: float, edges: Sequence[float], unit: str) -> str:
    if not np.isfinite(value):
        return ""
    for low, high in pairwise(edges):
        if value <= high:
            return f"{low:g} to {high:g} {unit}"
    return f"over {edges[-1]:g} {unit}"


def _leading_number(text: str) -> float:
    digits = text.split(" ")[0]
    return float(digits) if digits.replace(".", "", 1).isdigit() else (1e9 if text.startswith("over") else -1.0)
