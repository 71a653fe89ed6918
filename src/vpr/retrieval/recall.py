"""Recall@N of a ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.retrieval.positives import Positives


def is_positive(ranking: NDArray[np.int64], positives: Sequence[Sequence[int]] | Positives) -> NDArray[np.bool_]:
    """Return a mask ``(num_queries, k)`` of the predictions that are positives."""
    if len(positives) != len(ranking):
        raise ValueError(f"{len(ranking)} queries were ranked, but positives of {len(positives)} queries were given")
    return np.array([np.isin(row, np.asarray(near)) for row, near in zip(ranking, positives, strict=True)]).reshape(
        ranking.shape
    )


def recall_at(
    ranking: NDArray[np.int64], positives: Sequence[Sequence[int]] | Positives, ns: Sequence[int]
) -> dict[int, float]:
    """Return the share of queries, in [0, 1], with a positive among the first N predictions.

    A query without any positive counts as not found.

    Args:
        ranking: Database indices ``(num_queries, k)``, nearest first.
        positives: Database indices of the positives of each query.
        ns: Values of N; if N exceeds ``k``, all ``k`` predictions count.
    """
    if len(ranking) == 0:
        raise UserError("no queries; recall is not defined")
    found = is_positive(ranking, positives)
    return {n: float(found[:, :n].any(axis=1).mean()) for n in ns}
