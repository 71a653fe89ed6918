"""Re-rank all evaluation sets, with a gate that is learnt on the validation set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.descriptors.described_set import DescribedSet
from vpr.evaluation.evaluation import evaluate_ranking
from vpr.evaluation.predictions import Predictions
from vpr.localization.confidence import NoConfidence, calibrate, confidence_of
from vpr.reranking.compare import Compared, compare
from vpr.reranking.gate import Gate, learn_gate
from vpr.reranking.params import RerankParams
from vpr.retrieval.positives import Positives, positives_of
from vpr.retrieval.recall import is_positive, recall_at
from vpr.retrieval.search import search


@dataclass(frozen=True)
class Candidates:
    """The nearest database images of each query of a set, and the positives of each query."""

    described: DescribedSet
    predictions: Predictions
    positives: Positives | None


def candidates_of(described: DescribedSet, k: int, radius_m: float) -> Candidates:
    """Search a set for the nearest ``k`` database images of each query."""
    database, queries = described.database, described.queries
    ranking, distances = search(database.descriptors, np.asarray(queries.descriptors), k)
    found = evaluate_ranking(ranking, distances, database.rows, queries.rows, [1], radius_m).predictions
    return Candidates(described, found, positives_of(database.rows, queries.rows, radius_m))


@dataclass(frozen=True)
class RerankedSet:
    """A set before and after re-ranking.

    Attributes:
        candidates: Predictions before.
        compared: Inliers between queries and candidates.
        predictions: Predictions after.
        inliers: Inliers of these predictions, ``(num_queries, k)``.
    """

    candidates: Candidates
    compared: Compared
    predictions: Predictions
    inliers: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write the predictions as ``Predictions.save`` does, with an additional column ``inliers``."""
        self.predictions.save(path)
        pd.read_parquet(path).assign(inliers=self.inliers.ravel()).to_parquet(path)

    def metrics(self, recall_at_n: Sequence[int]) -> dict[str, Any]:
        """Return counts and recalls, but no times, which differ from run to run."""
        found: dict[str, Any] = {
            "num_queries": len(self.compared.chosen),
            "num_reranked": int(self.compared.chosen.sum()),
            "num_candidates": self.compared.ranking.shape[1],
        }
        positives = self.candidates.positives
        if positives is not None:
            before, after = self.candidates.predictions.ranking, self.predictions.ranking
            right = [is_positive(ranking[:, :1], positives)[:, 0] for ranking in (before, after)]
            found |= {"fixed": int((~right[0] & right[1]).sum()), "broken": int((right[0] & ~right[1]).sum())}
            for name, ranking in (("before", before), ("after", after)):
                found |= {f"{name}_recall_at_{n}": r for n, r in recall_at(ranking, positives, recall_at_n).items()}
        return found


def rerank_sets(
    sets: Mapping[str, DescribedSet], val_set: str, params: RerankParams, radius_m: float, neighbours: int
) -> tuple[dict[str, RerankedSet], Gate | None]:
    """Re-rank the queries of each set, either all of them or those that the gate selects.

    Args:
        sets: Sets by name; with a gate, the validation set must be one of them.
        val_set: Name of the validation set.
        params: Section ``rerank``.
        radius_m: Largest distance of a positive, in metres.
        neighbours: Predictions of each query that the confidence is based on.

    Raises:
        UserError: if the gate cannot be learnt, or an image cannot be read.
    """
    if params.gate is not True:
        weight = float(params.gate) or None
        return {
            name: _rerank(candidates_of(each, params.num_candidates, radius_m), None, params, weight)
            for name, each in sets.items()
        }, None
    if val_set not in sets:
        raise UserError(
            f"rerank.gate is learnt on the validation set, but {val_set} is not in eval_sets; add it, or set "
            "rerank.gate to a weight such as 0.1"
        )
    learnt_on = candidates_of(sets[val_set], params.num_candidates, radius_m)
    described = learnt_on.described
    try:
        calibration = calibrate(
            learnt_on.predictions, described.database.rows, described.queries.rows,
            described.database.manifest.name, val_set, radius_m, neighbours,
        )  # fmt: skip
    except NoConfidence as error:
        raise UserError(f"rerank.gate cannot be learnt: {error}; set it to a weight such as 0.1") from None
    all_compared = _rerank(learnt_on, None, params, None)
    positives = learnt_on.positives
    assert positives is not None, "calibrate refuses a set without labels"
    found, compared = learnt_on.predictions, all_compared.compared

    def right(order: NDArray[np.int64]) -> NDArray[np.bool_]:
        return is_positive(np.take_along_axis(found.ranking, order[:, :1], axis=1), positives)[:, 0]

    confidence = confidence_of(found, described.database.rows, calibration, radius_m)
    before = is_positive(found.ranking[:, :1], positives)[:, 0]
    gate = learn_gate(confidence, before, lambda weight: right(compared.order(found.distances, weight)), calibration)
    reranked = {}
    for name, each in sets.items():
        candidates = learnt_on if name == val_set else candidates_of(each, params.num_candidates, radius_m)
        database = candidates.described.database.rows
        chosen = confidence_of(candidates.predictions, database, calibration, radius_m) < gate.below
        known = all_compared.compared if name == val_set else None
        reranked[name] = _rerank(candidates, chosen, params, gate.weight, known)
    return reranked, gate


def _rerank(
    candidates: Candidates,
    chosen: NDArray[np.bool_] | None,
    params: RerankParams,
    weight: float | None,
    known: Compared | None = None,
) -> RerankedSet:
    """Re-rank the chosen queries.

    Args:
        candidates: Candidates of all queries.
        chosen: Mask of the queries to re-rank; ``None`` for all of them.
        params: Section ``rerank``.
        weight: See ``Compared.order``.
        known: Comparison of all queries from an earlier call.
    """
    found = candidates.predictions
    chosen = np.ones(len(found), dtype=bool) if chosen is None else chosen
    if known is not None:
        compared = Compared(known.ranking, np.where(chosen[:, None], known.inliers, 0), chosen, known.seconds)
    else:
        compared = compare(candidates.described, found.ranking, chosen, params)
    order = compared.order(found.distances, weight)

    def reordered(values: NDArray[Any]) -> NDArray[Any]:
        return np.take_along_axis(values, order, axis=1)

    after = Predictions(
        found.queries,
        reordered(found.images),
        reordered(found.ranking),
        reordered(found.distances),
        reordered(found.distance_m),
        None if found.is_positive is None else reordered(found.is_positive),
    )
    return RerankedSet(candidates, compared, after, reordered(compared.inliers))
