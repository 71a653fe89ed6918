"""Confidence: the probability that the first prediction is a positive, learnt on the validation set.

Platt scaling (Platt, "Probabilistic Outputs for Support Vector Machines", 1999; fitted by scikit-learn) of two numbers:
how far the first prediction is, and how much farther the nearest prediction of another place, as the ratio test of
local features has it (Lowe, IJCV 2004).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from vpr.config.errors import UserError
from vpr.config.params import Finite, Positive
from vpr.retrieval.positives import positive_rule, utm_grids
from vpr.retrieval.predictions import Predictions

Numbers = NDArray[np.float64]
MIN_QUERIES = 20
USUAL_SHARE = 0.95


class NoConfidence(UserError):
    """A set that no confidence can be learnt on."""


@dataclass(frozen=True)
class Calibration:
    """What turns distances into a probability.

    Attributes:
        dataset, set: the evaluation set it was fitted on.
        num_queries: of that set.
        means: what it is the probability of, such as ``within 25 m``.
        neighbours: predictions of each query that were looked at.
        mean, scale, weights, bias: of the logistic function of ``confidence_inputs``.
        usual_distance: of the descriptors, to the first prediction; of 95 % of the set's queries it is not more.
    """

    dataset: str
    set: str
    num_queries: int
    means: str
    neighbours: Annotated[int, Field(ge=1)]
    mean: tuple[Finite, Finite]
    scale: tuple[Positive, Positive]
    weights: tuple[Finite, Finite]
    bias: Finite
    usual_distance: Positive

    @property
    def learnt_on(self) -> str:
        """The evaluation set in words."""
        return f"{self.set} of {self.dataset}"

    def confidence(self, inputs: Numbers) -> Numbers:
        """Probabilities ``(num_queries,)`` of inputs ``(num_queries, 2)``."""
        scores = ((inputs - np.array(self.mean)) / np.array(self.scale)) @ np.array(self.weights) + self.bias
        found: Numbers = 1.0 / (1.0 + np.exp(-np.clip(scores, -700, 700)))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def is_other_place(predicted: pd.DataFrame, num_queries: int, radius_m: float) -> NDArray[np.bool_]:
    """Which predictions show another place than the query's first, ``(num_queries, k)``.

    Farther from it than the radius, or with another place id where there are no coordinates; without both, any other.

    Args:
        predicted: database rows of the predictions, query after query.
    """
    k = len(predicted) // num_queries
    utm = predicted[["utm_east", "utm_north"]].to_numpy(dtype=float).reshape(num_queries, k, 2)
    zones = utm_grids(predicted["utm_zone"].fillna("").to_list()).reshape(num_queries, k)
    if np.isfinite(utm).all():
        far = np.hypot(*np.moveaxis(utm - utm[:, :1], -1, 0)) > radius_m
        return far | (zones != zones[:, :1])
    places = predicted["place_id"].fillna("").to_numpy(dtype=object).reshape(num_queries, k)
    apart = (places != places[:, :1]) | (places == "")
    apart[:, 0] = False
    return apart


def confidence_inputs(distances: NDArray[Any], apart: NDArray[np.bool_]) -> Numbers:
    """Distance to the first prediction, and how much farther the nearest of another place is, ``(num_queries, 2)``.

    Args:
        distances: of the descriptors, ``(num_queries, k)``, nearest first.
        apart: see ``is_other_place``; where none is, the last prediction stands for the next place.
    """
    next_place = np.where(apart.any(axis=1), apart.argmax(axis=1), distances.shape[1] - 1)
    gap = distances[np.arange(len(distances)), next_place] - distances[:, 0]
    return np.stack([distances[:, 0], gap], axis=1).astype(np.float64)


def fit_calibration(
    inputs: Numbers, correct: NDArray[np.bool_], dataset: str, name: str, means: str, neighbours: int
) -> Calibration:
    """Learn the confidence from queries whose place is known.

    Args:
        inputs: of ``confidence_inputs``, ``(num_queries, 2)``.
        correct: whether the first prediction is a positive.
        dataset, name: of the set.
        means, neighbours: see ``Calibration``.

    Raises:
        NoConfidence: if there are too few queries.
    """
    if len(inputs) < MIN_QUERIES:
        raise NoConfidence(f"set {name} has {len(inputs)} queries; confidence is learnt from at least {MIN_QUERIES}")
    mean, scale = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-9)
    if correct.all() or not correct.any():
        # Nothing to tell apart: the rate itself, by Laplace's rule of succession.
        rate = (correct.sum() + 1) / (len(correct) + 2)
        weights, bias = np.zeros(2), float(np.log(rate / (1 - rate)))
    else:
        from sklearn.linear_model import LogisticRegression  # not needed to use a model

        fitted = LogisticRegression().fit((inputs - mean) / scale, correct)
        weights, bias = fitted.coef_[0], float(fitted.intercept_[0])
    first, spread, slope = ((float(v[0]), float(v[1])) for v in (mean, scale, weights))
    usual = max(1e-9, float(np.quantile(inputs[:, 0], USUAL_SHARE)))
    return Calibration(dataset, name, len(inputs), means, neighbours, first, spread, slope, bias, usual)


def calibrate(
    predictions: Predictions,
    database: pd.DataFrame,
    queries: pd.DataFrame,
    dataset: str,
    name: str,
    radius_m: float,
    neighbours: int,
) -> Calibration:
    """Learn the confidence from the predictions on an evaluation set.

    Args:
        database, queries: rows of the set.
        dataset, name: of the set.
        radius_m: a database image within it is a positive.
        neighbours: predictions of each query to look at.

    Raises:
        NoConfidence: if the set has no labels, or too few queries.
    """
    if predictions.is_positive is None:
        raise NoConfidence(f"{name} has no labels")
    near = predictions.first(neighbours)
    apart = is_other_place(database.iloc[near.ranking.ravel()], len(near), radius_m)
    inputs = confidence_inputs(near.distances.astype(np.float64), apart)
    rule = positive_rule(database, queries)
    means = f"within {radius_m:g} m" if rule == "distance" else "the same place" if rule == "place id" else "a positive"
    return fit_calibration(inputs, predictions.is_positive[:, 0], dataset, name, means, near.num_kept)


def reliability(confidence: Numbers, correct: NDArray[np.bool_], bins: int = 10) -> pd.DataFrame:
    """``confidence, correct, num_queries`` in bins of about equally many queries, least confident first."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    return pd.DataFrame(
        {
            "confidence": [float(confidence[p].mean()) for p in parts],
            "correct": [float(correct[p].mean()) for p in parts],
            "num_queries": [len(p) for p in parts],
        }
    )


def calibration_error(confidence: Numbers, correct: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error: the mean gap between confidence and share of correct answers, in [0, 1]."""
    table = reliability(confidence, correct, bins)
    gaps = (table["confidence"] - table["correct"]).abs() * table["num_queries"]
    return float(gaps.sum() / table["num_queries"].sum())


def precision_recall(confidence: Numbers, correct: NDArray[np.bool_]) -> pd.DataFrame:
    """What ``--min-confidence`` gives at each threshold.

    Returns:
        ``min_confidence, answered, precision, recall``: share of queries answered, of answers that are right, and of
        all queries that are answered rightly. Queries of equal confidence are answered together.
    """
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(correct[order])
    answered = np.arange(1, len(order) + 1)
    last = np.append(np.diff(confidence[order]) != 0, True)
    table = pd.DataFrame(
        {
            "min_confidence": confidence[order],
            "answered": answered / len(order),
            "precision": right / answered,
            "recall": right / len(order),
        }
    )
    return table[last].reset_index(drop=True)
