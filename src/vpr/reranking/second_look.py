"""All evaluation sets with a second look: the gate is learnt on the validation set, and passed by the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.data.described_set import DescribedSet
from vpr.localization.confidence import Calibration, NoConfidence, calibrate, confidence_inputs, is_other_place
from vpr.reranking.gate import Gate, learn_gate
from vpr.reranking.params import RerankParams
from vpr.reranking.rerank import Compared, compare
from vpr.retrieval.evaluation import evaluate_ranking
from vpr.retrieval.positives import Positives, positives_of
from vpr.retrieval.predictions import Predictions
from vpr.retrieval.recall import is_positive, recall_at
from vpr.retrieval.search import search


@dataclass(frozen=True)
class Candidates:
    """The nearest database images of each query of a set, and which are positives."""

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
class SecondLook:
    """A set before and after.

    Attributes:
        candidates: before.
        compared: what was looked at.
        predictions: after.
        inliers: of these, ``(num_queries, k)``.
    """

    candidates: Candidates
    compared: Compared
    predictions: Predictions
    inliers: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write the predictions as ``Predictions.save`` does, with a column ``inliers``."""
        self.predictions.save(path)
        pd.read_parquet(path).assign(inliers=self.inliers.ravel()).to_parquet(path)

    def metrics(self, recall_at_n: Sequence[int]) -> dict[str, Any]:
        """Counts and recalls; no times, which no two runs share."""
        looked = int(self.compared.looked.sum())
        found: dict[str, Any] = {
            "num_queries": len(self.compared.looked),
            "num_looked_at": looked,
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


def confidence_of(candidates: Candidates, calibration: Calibration, radius_m: float) -> NDArray[np.float64]:
    """The confidence in each query's first candidate."""
    near = candidates.predictions.first(calibration.neighbours)
    rows = candidates.described.database.rows.iloc[near.ranking.ravel()]
    apart = is_other_place(rows, len(near), radius_m)
    return calibration.confidence(confidence_inputs(near.distances.astype(np.float64), apart))


def look_again(
    sets: Mapping[str, DescribedSet], val_set: str, params: RerankParams, radius_m: float, neighbours: int
) -> tuple[dict[str, SecondLook], Gate | None]:
    """Compare the candidates of each set's queries again, of all or of those that the gate lets through.

    Args:
        sets: by name; with a gate the validation set is one of them.
        neighbours: predictions that the confidence looks at.

    Raises:
        UserError: if the gate can't be learnt, or an image can't be read.
    """
    if params.gate is not True:
        weight = float(params.gate) or None
        return {
            name: _look(candidates_of(each, params.num_candidates, radius_m), None, params, weight)
            for name, each in sets.items()
        }, None
    if val_set not in sets:
        raise UserError(
            f"rerank.gate is learnt on the validation set, and {val_set} is not in eval_sets; add it, or set the gate "
            "to false"
        )
    learnt_on = candidates_of(sets[val_set], params.num_candidates, radius_m)
    described = learnt_on.described
    try:
        calibration = calibrate(
            learnt_on.predictions, described.database.rows, described.queries.rows,
            described.database.manifest.name, val_set, radius_m, neighbours,
        )  # fmt: skip
    except NoConfidence as error:
        raise UserError(f"rerank.gate can't be learnt: {error}; set it to false") from None
    all_looked = _look(learnt_on, None, params, None)
    positives = learnt_on.positives
    assert positives is not None, "a set without labels teaches no confidence"
    found, compared = learnt_on.predictions, all_looked.compared

    def right(order: NDArray[np.int64]) -> NDArray[np.bool_]:
        return is_positive(np.take_along_axis(found.ranking, order[:, :1], axis=1), positives)[:, 0]

    confidence = confidence_of(learnt_on, calibration, radius_m)
    before = is_positive(found.ranking[:, :1], positives)[:, 0]
    gate = learn_gate(confidence, before, lambda weight: right(compared.order(found.distances, weight)), calibration)
    looks = {}
    for name, each in sets.items():
        candidates = learnt_on if name == val_set else candidates_of(each, params.num_candidates, radius_m)
        looked = confidence_of(candidates, calibration, radius_m) < gate.below
        known = all_looked.compared if name == val_set else None
        looks[name] = _look(candidates, looked, params, gate.weight, known)
    return looks, gate


def _look(
    candidates: Candidates,
    looked: NDArray[np.bool_] | None,
    params: RerankParams,
    weight: float | None,
    known: Compared | None = None,
) -> SecondLook:
    """Compare the chosen queries, all without ``looked``; ``known`` has compared all of them before.

    Args:
        weight: see ``Compared.order``.
    """
    found = candidates.predictions
    looked = np.ones(len(found), dtype=bool) if looked is None else looked
    if known is not None:
        compared = Compared(known.ranking, np.where(looked[:, None], known.inliers, 0), looked, known.seconds)
    else:
        compared = compare(candidates.described, found.ranking, looked, params)
    order = compared.order(found.distances, weight)

    def sorted_by_inliers(values: NDArray[Any]) -> NDArray[Any]:
        return np.take_along_axis(values, order, axis=1)

    after = Predictions(
        found.queries,
        sorted_by_inliers(found.images),
        sorted_by_inliers(found.ranking),
        sorted_by_inliers(found.distances),
        sorted_by_inliers(found.distance_m),
        None if found.is_positive is None else sorted_by_inliers(found.is_positive),
    )
    return SecondLook(candidates, compared, after, sorted_by_inliers(compared.inliers))
