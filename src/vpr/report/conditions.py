"""Recall broken down by what is known of each query."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.report.sections import ConditionBars, ConditionValue
from vpr.retrieval.conditions import condition_columns
from vpr.retrieval.positives import Positives, has_coordinates, utm_of

DISTANCE_BINS_M = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
HEADING_BINS_DEG = (0, 15, 30, 60, 90, 180)


def wilson(successes: int, number: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson, 1927)."""
    if number == 0:
        return 0.0, 1.0
    share = successes / number
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * np.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def query_conditions(
    queries: pd.DataFrame, database: pd.DataFrame, positives: Positives | None
) -> dict[str, pd.Series]:
    """What is known of each query, as text: the dataset's columns, and distance and heading to the nearest positive."""
    known = {column: queries[column].fillna("").astype(str) for column in condition_columns(queries)}
    if positives is None or not (has_coordinates(database) and has_coordinates(queries)):
        return known
    offsets, turns = np.full(len(queries), np.nan), np.full(len(queries), np.nan)
    utm, query_utm = utm_of(database), utm_of(queries)
    headings = turns_to_positives(database, queries, positives)
    for q, near in enumerate(positives):
        if len(near):
            offsets[q] = np.hypot(*(utm[near] - query_utm[q]).T).min()
            if np.isfinite(headings[q]).any():
                turns[q] = np.nanmin(headings[q])
    for title, values, edges, unit in (
        ("distance to the nearest positive", offsets, DISTANCE_BINS_M, "m"),
        ("smallest heading difference to a positive", turns, HEADING_BINS_DEG, "°"),
    ):
        if np.isfinite(values).any():
            known[title] = pd.Series([_bin(v, edges, unit) for v in values])
    return known


def turns_to_positives(
    database: pd.DataFrame, queries: pd.DataFrame, positives: Positives
) -> list[NDArray[np.float64]]:
    """Degrees between the headings of each query and of its positives; not a number where one is not known."""
    headings, own = (rows["heading"].to_numpy(dtype=float) for rows in (database, queries))
    return [np.abs((headings[near] - own[q] + 180) % 360 - 180) for q, near in enumerate(positives)]


def condition_bars(conditions: dict[str, pd.Series], first_positive: NDArray[np.int64]) -> list[ConditionBars]:
    """Recall@1 by the values of each condition that has several."""
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
    """A column as its distinct values and a number for each row; -1 where nothing is known."""
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
