"""Score a ranking: recalls, recall by condition, and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.data.positions import Positions
from vpr.evaluation.conditions import recall_by_condition
from vpr.evaluation.predictions import Predictions
from vpr.evaluation.sequences import drives, rank_drives
from vpr.retrieval.params import SequenceParams
from vpr.retrieval.positives import Positives, positive_rule, positives_of
from vpr.retrieval.recall import is_positive, recall_at


@dataclass(frozen=True)
class Evaluation:
    """The scores of an evaluation set; parts that need labels are empty for an unlabelled set.

    Attributes:
        metrics: Counts, the definition of a positive, recalls and errors in metres.
        curve: Table ``N, recall`` for each N up to the number of predictions.
        conditions: Table ``condition, value, num_queries, recall_at_<N>...``.
        predictions: Predictions of each query.
    """

    metrics: dict[str, Any]
    curve: pd.DataFrame
    conditions: pd.DataFrame
    predictions: Predictions


def evaluate_ranking(
    ranking: NDArray[np.int64],
    distances: NDArray[np.float32],
    database: pd.DataFrame,
    queries: pd.DataFrame,
    recalls: Sequence[int],
    radius_m: float,
    approximate: NDArray[np.int64] | None = None,
) -> Evaluation:
    """Score one evaluation set.

    Args:
        ranking, distances: Result ``(num_queries, k)`` of ``vpr.retrieval.search.search``, nearest first.
        database, queries: Manifest rows, in the order of the descriptors.
        recalls: Values of N in recall@N.
        radius_m: Largest distance of a positive, in metres.
        approximate: Ranking of an approximate index, to be compared with ``ranking``.
    """
    rule = positive_rule(database, queries)
    located = rule == "distance"
    metrics: dict[str, Any] = {
        "num_database": len(database),
        "num_queries": len(queries),
        "positives": f"{radius_m:g} m" if located else rule,
    }
    if located:
        metrics["positive_radius_m"] = radius_m
    if "protocol" in queries and len(queries) and queries["protocol"].iloc[0]:
        metrics["protocol"] = queries["protocol"].iloc[0]
    positives = positives_of(database, queries, radius_m)
    error_m = _distances_m(ranking, database, queries) if located else None
    correct = None
    curve, conditions = pd.DataFrame(), pd.DataFrame()
    if positives is not None:
        correct = is_positive(ranking, positives)
        metrics["num_queries_without_positives"] = sum(len(p) == 0 for p in positives)
        metrics |= {f"recall_at_{n}": r for n, r in recall_at(ranking, positives, recalls).items()}
        ns = list(range(1, ranking.shape[1] + 1))
        curve = pd.DataFrame({"N": ns, "recall": list(recall_at(ranking, positives, ns).values())})
        conditions = recall_by_condition(ranking, positives, queries, recalls)
    if approximate is not None:
        metrics |= compare_rankings(ranking, approximate, positives, recalls)
    if error_m is not None:
        # "lower" picks one of the values, so that infinity, for an unknown position, is not interpolated.
        for name, share in (("median_error_m", 50), ("p90_error_m", 90)):
            error = float(np.percentile(error_m[:, 0], share, method="lower" if np.isinf(error_m).any() else "linear"))
            if np.isfinite(error):
                metrics[name] = round(error, 2)
    unknown = np.full(ranking.shape, np.nan)
    predictions = Predictions(
        queries["image"].to_numpy(dtype=object),
        database["image"].to_numpy(dtype=object)[ranking],
        ranking,
        distances,
        unknown if error_m is None else error_m.round(2),
        correct,
    )
    return Evaluation(metrics, curve, conditions, predictions)


def sequence_recalls(
    database: pd.DataFrame,
    queries: pd.DataFrame,
    descriptors: tuple[NDArray[np.float32], NDArray[np.float32]],
    recalls: Sequence[int],
    radius_m: float,
    params: SequenceParams,
) -> dict[str, float]:
    """Return ``sequence_recall_at_<N>`` of a set with ordered queries; empty if they have no order or no labels.

    Args:
        database, queries: Manifest rows.
        descriptors: Descriptors of the database and of the queries.
        recalls: Values of N in recall@N.
        radius_m: Largest distance of a positive, in metres.
        params: Settings of the smoothing.
    """
    positives = positives_of(database, queries, radius_m)
    if positives is None or not drives(queries):
        return {}
    ranking = rank_drives(database, queries, *descriptors, max(recalls), params)
    return {f"sequence_recall_at_{n}": r for n, r in recall_at(ranking, positives, recalls).items()}


def compare_rankings(
    exact: NDArray[np.int64], approximate: NDArray[np.int64], positives: Positives | None, recalls: Sequence[int]
) -> dict[str, float]:
    """Compare an approximate index with exact search.

    Args:
        exact, approximate: Rankings ``(num_queries, k)``, nearest first; -1 stands for a missing neighbour.
        positives: Positives of each query; ``None`` for an unlabelled set.
        recalls: Values of N in recall@N.

    Returns:
        ``index_agreement_at_<N>``, the share of the N nearest images that the index finds among its first N, averaged
        over the queries; and ``index_recall_at_<N>``.
    """
    result = {}
    for n in recalls:
        common = [len(np.intersect1d(a[:n], b[:n])) for a, b in zip(exact, approximate, strict=True)]
        result[f"index_agreement_at_{n}"] = float(np.mean(common) / min(n, exact.shape[1]))
    if positives is not None:
        result |= {f"index_recall_at_{n}": r for n, r in recall_at(approximate, positives, recalls).items()}
    return result


def _distances_m(ranking: NDArray[np.int64], database: pd.DataFrame, queries: pd.DataFrame) -> NDArray[np.float64]:
    """Return metres from each query to each of its predictions."""
    asked = np.repeat(np.arange(len(queries)), ranking.shape[1])
    metres = Positions.of(database)[ranking.ravel()].metres_to(Positions.of(queries)[asked])
    return metres.reshape(ranking.shape)
