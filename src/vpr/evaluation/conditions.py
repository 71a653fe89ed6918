"""Find the columns that recall can be broken down by, such as the time of day, and compute these recalls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.data.manifest import COLUMNS, VERIFIED_COLUMNS
from vpr.retrieval.positives import Positives
from vpr.retrieval.recall import recall_at

MIN_VALUES, MAX_VALUES = 2, 12  # distinct values of a column that counts as a condition


def is_number(values: pd.Series) -> bool:
    """Return whether a column holds numbers, possibly as text; true and false are not numbers."""
    if pd.api.types.is_bool_dtype(values):
        return False
    filled = values[values.notna() & (values != "")]
    return len(filled) > 0 and bool(pd.to_numeric(filled, errors="coerce").notna().all())


def condition_columns(queries: pd.DataFrame) -> list[str]:
    """Return the columns of strings or booleans with few distinct values, which recall can be broken down by."""
    known = {"image", "role", "set", "place_id", "frame", "positive_frames", *VERIFIED_COLUMNS}
    columns = []
    for column in queries.columns:
        if column in known or (column in COLUMNS and COLUMNS[column] != "str"):
            continue
        values = queries[column]
        if not is_number(values) and MIN_VALUES <= (values[values != ""]).nunique() <= MAX_VALUES:
            columns.append(column)
    return columns


def recall_by_condition(
    ranking: NDArray[np.int64], positives: Positives, queries: pd.DataFrame, recalls: Sequence[int]
) -> pd.DataFrame:
    """Return a table with a row for each value of each condition.

    Its columns are ``condition``, ``value``, ``num_queries`` and ``recall_at_<N>`` for each N in ``recalls``.
    """
    rows = []
    for column in condition_columns(queries):
        values = queries[column]
        for value in sorted(set(values.dropna()) - {""}, key=str):
            chosen = np.flatnonzero((values == value).to_numpy())
            scores = recall_at(ranking[chosen], [positives[q] for q in chosen], recalls)
            rows.append(
                {
                    "condition": column,
                    "value": str(value),
                    "num_queries": len(chosen),
                    **{f"recall_at_{n}": r for n, r in scores.items()},
                }
            )
    return pd.DataFrame(rows)
