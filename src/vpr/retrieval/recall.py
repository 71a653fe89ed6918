"""Recall@N of a ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.retrieval.positives import Positives


def is_positive(ranking: NDArray[np.int64], positives: Sequence[Sequence[int]] | Positives) -> NDArray[np.bool_]:
    """Which predictions are positives, ``(num_queries, k)``."""
    if len(positives) != len(ranking):
        raise ValueError(f"{len(ranking)} queries were ranked, positives of {len(positives)} were given")
    return np.array([np.isin(row, np.asarray(near)) for row, near in zip(ranking, positives, strict=True)]).reshape(
        ranking.shape
    )


def recall_at(
    ranking: NDArray[np.int64], positives: Sequence[Sequence[int]] | Positives, ns: Sequence[int]
) -> dict[int, float]:
    """Share of queries, in [0, 1], with a positive among the first N predictions.

    A query without any positive counts as not found.

    Args:
        ranking: ``(num_queries, k)`` database indices, nearest first.
        positives: for each query its positives in the database.
        ns: the N of recall@N; where N exceeds ``k``, all ``k`` predictions count.
    """
    if len(ranking) == 0:
        raise UserError("no queries; recall is not defined")
    found = is_positive(ranking, positives)
    return {n: float(found[:, :n].any(axis=1).mean()) for n in ns}
