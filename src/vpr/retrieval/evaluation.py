"""Ranking + manifest rows -> recalls, recall by condition, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.retrieval.conditions import recall_by_condition
from vpr.retrieval.params import SequenceParams
from vpr.retrieval.positives import Positives, positive_rule, positives_of, utm_grids, utm_of
from vpr.retrieval.predictions import Predictions
from vpr.retrieval.recall import is_positive, recall_at
from vpr.retrieval.sequences import drives, rank_drives


@dataclass(frozen=True)
class Evaluation:
    """What is known of one evaluation set.

    Attributes:
        metrics: counts, what makes a positive, recalls and errors; no recalls where the set is unlabelled.
        curve: ``N, recall`` for each N up to the predictions kept; empty where unlabelled.
        conditions: ``condition, value, num_queries, recall_at_<N>...``; empty where unlabelled.
        predictions: what was found for each query.
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
        ranking, distances: ``(num_queries, k)``, nearest first, as ``vpr.retrieval.search.search`` returns them.
        database, queries: manifest rows, in the order of the descriptors.
        recalls: the N of recall@N.
        radius_m: a database image within it is a positive.
        approximate: what an approximate index found instead; it is compared with ``ranking``.
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
        # "lower" picks one of the values, so that infinity, for another UTM grid, stays out of the arithmetic.
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
    """``sequence_recall_at_<N>`` of a set whose queries come in order; nothing where they do not, or have no labels.

    Args:
        descriptors: of database and queries.
    """
    positives = positives_of(database, queries, radius_m)
    if positives is None or not drives(queries):
        return {}
    ranking = rank_drives(database, queries, *descriptors, max(recalls), params)
    return {f"sequence_recall_at_{n}": r for n, r in recall_at(ranking, positives, recalls).items()}


def compare_rankings(
    exact: NDArray[np.int64], approximate: NDArray[np.int64], positives: Positives | None, recalls: Sequence[int]
) -> dict[str, float]:
    """What an approximate index finds, beside the exact recalls.

    Args:
        exact, approximate: ``(num_queries, k)``, nearest first; -1 stands for nothing found.
        positives: of each query; ``None`` where the set is unlabelled.
        recalls: the N of recall@N.

    Returns:
        ``index_agreement_at_<N>``, the share of the N nearest that it finds among its first N, averaged over the
        queries; and ``index_recall_at_<N>``.
    """
    result = {}
    for n in recalls:
        common = [len(np.intersect1d(a[:n], b[:n])) for a, b in zip(exact, approximate, strict=True)]
        result[f"index_agreement_at_{n}"] = float(np.mean(common) / min(n, exact.shape[1]))
    if positives is not None:
        result |= {f"index_recall_at_{n}": r for n, r in recall_at(approximate, positives, recalls).items()}
    return result


def _distances_m(ranking: NDArray[np.int64], database: pd.DataFrame, queries: pd.DataFrame) -> NDArray[np.float64]:
    """Metres from each query to each of its predictions; infinite across UTM zones."""
    offset = utm_of(database)[ranking] - utm_of(queries)[:, None]
    metres = np.hypot(offset[..., 0], offset[..., 1])
    same_grid = utm_grids(database["utm_zone"].to_list())[ranking] == utm_grids(queries["utm_zone"].to_list())[:, None]
    return np.where(same_grid, metres, np.inf)
