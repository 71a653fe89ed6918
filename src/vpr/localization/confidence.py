"""Confidence: the probability that the first prediction is a positive, learnt on the validation set.

It is computed by Platt scaling (Platt, "Probabilistic Outputs for Support Vector Machines", 1999; fitted with
scikit-learn) from two numbers: the distance of the first prediction, and how much farther the nearest prediction of
another place is, similar to the ratio test of local features (Lowe, IJCV 2004).
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
from vpr.data.positions import Positions
from vpr.evaluation.predictions import Predictions
from vpr.retrieval.positives import positive_rule

Numbers = NDArray[np.float64]
MIN_QUERIES = 20
USUAL_SHARE = 0.95


class NoConfidence(UserError):
    """The confidence cannot be learnt on this set."""


@dataclass(frozen=True)
class Calibration:
    """A fitted function from descriptor distances to a probability.

    Attributes:
        dataset, set: Dataset and evaluation set that it was fitted on.
        num_queries: Number of queries of that set.
        means: Statement that the probability refers to, such as ``within 25 m``.
        neighbours: Number of predictions of each query that it is based on.
        mean, scale, weights, bias: Parameters of the logistic function of ``confidence_inputs``.
        usual_distance: Descriptor distance of the first prediction that 95 % of the set's queries do not exceed.
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
        """Evaluation set and dataset, in words."""
        return f"{self.set} of {self.dataset}"

    def confidence(self, inputs: Numbers) -> Numbers:
        """Return probabilities ``(num_queries,)`` for inputs ``(num_queries, 2)``."""
        scores = ((inputs - np.array(self.mean)) / np.array(self.scale)) @ np.array(self.weights) + self.bias
        found: Numbers = 1.0 / (1.0 + np.exp(-np.clip(scores, -700, 700)))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes in plain types."""
        return asdict(self)


def is_other_place(predicted: pd.DataFrame, num_queries: int, radius_m: float) -> NDArray[np.bool_]:
    """Return a mask ``(num_queries, k)`` of the predictions that show another place than the query's first one.

    A prediction shows another place if it is farther away than the radius or, without coordinates, if it has another
    place id. Without either, all other images show other places.

    Args:
        predicted: Database rows of the predictions, query after query.
        num_queries: Number of queries.
        radius_m: Radius in metres.
    """
    k = len(predicted) // num_queries
    positions = Positions.of(predicted)
    if positions.known.all():
        first = np.repeat(np.arange(0, len(predicted), k), k)
        return (positions.metres_to(positions[first]) > radius_m).reshape(num_queries, k)
    places = predicted["place_id"].fillna("").to_numpy(dtype=object).reshape(num_queries, k)
    other_place = (places != places[:, :1]) | (places == "")
    other_place[:, 0] = False
    return other_place


def confidence_inputs(distances: NDArray[Any], other_place: NDArray[np.bool_]) -> Numbers:
    """Return the numbers that the confidence is computed from, ``(num_queries, 2)``.

    They are the distance of the first prediction, and how much farther the nearest prediction of another place is.

    Args:
        distances: Descriptor distances ``(num_queries, k)``, nearest first.
        other_place: Result of ``is_other_place``; if no prediction shows another place, the last one is used.
    """
    next_place = np.where(other_place.any(axis=1), other_place.argmax(axis=1), distances.shape[1] - 1)
    gap = distances[np.arange(len(distances)), next_place] - distances[:, 0]
    return np.stack([distances[:, 0], gap], axis=1).astype(np.float64)


def fit_calibration(
    inputs: Numbers, correct: NDArray[np.bool_], dataset: str, name: str, means: str, neighbours: int
) -> Calibration:
    """Fit the calibration on queries whose place is known.

    Args:
        inputs: Result of ``confidence_inputs``, ``(num_queries, 2)``.
        correct: Mask of the queries whose first prediction is a positive.
        dataset, name: Names of the dataset and the set.
        means, neighbours: See ``Calibration``.

    Raises:
        NoConfidence: if there are too few queries.
    """
    if len(inputs) < MIN_QUERIES:
        raise NoConfidence(f"set {name} has {len(inputs)} queries; confidence is learnt from at least {MIN_QUERIES}")
    mean, scale = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-9)
    if correct.all() or not correct.any():
        # All queries are right, or all are wrong: use the rate itself, by Laplace's rule of succession.
        rate = (correct.sum() + 1) / (len(correct) + 2)
        weights, bias = np.zeros(2), float(np.log(rate / (1 - rate)))
    else:
        from sklearn.linear_model import LogisticRegression  # using a model does not need it

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
    """Fit the calibration on the predictions of an evaluation set.

    Args:
        predictions: Predictions of the set.
        database, queries: Rows of the set.
        dataset, name: Names of the dataset and the set.
        radius_m: Largest distance of a positive, in metres.
        neighbours: Number of predictions of each query to use.

    Raises:
        NoConfidence: if the set has no labels, or too few queries.
    """
    if predictions.is_positive is None:
        raise NoConfidence(f"{name} has no labels")
    near = predictions.first(neighbours)
    inputs = inputs_of(near, database, radius_m)
    rule = positive_rule(database, queries)
    means = f"within {radius_m:g} m" if rule == "distance" else "the same place" if rule == "place id" else "a positive"
    return fit_calibration(inputs, predictions.is_positive[:, 0], dataset, name, means, near.num_kept)


def confidence_of(
    predictions: Predictions, database: pd.DataFrame, calibration: Calibration, radius_m: float
) -> Numbers:
    """Return the confidence in each query's first prediction, ``(num_queries,)``.

    Args:
        predictions: Predictions of the queries.
        database: Rows of the database.
        calibration: The calibration.
        radius_m: Two images within this distance show the same place.
    """
    return calibration.confidence(inputs_of(predictions.first(calibration.neighbours), database, radius_m))


def inputs_of(predictions: Predictions, database: pd.DataFrame, radius_m: float) -> Numbers:
    """Return ``confidence_inputs`` of predictions; see ``confidence_of``."""
    other_place = is_other_place(database.iloc[predictions.ranking.ravel()], len(predictions), radius_m)
    return confidence_inputs(predictions.distances.astype(np.float64), other_place)


def reliability(confidence: Numbers, correct: NDArray[np.bool_], bins: int = 10) -> pd.DataFrame:
    """Return ``confidence, correct, num_queries`` in bins of about equally many queries, least confident first."""
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
    """Return the expected calibration error, in [0, 1]: the mean gap between confidence and share of right answers."""
    table = reliability(confidence, correct, bins)
    gaps = (table["confidence"] - table["correct"]).abs() * table["num_queries"]
    return float(gaps.sum() / table["num_queries"].sum())


def precision_recall(confidence: Numbers, correct: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the effect of each threshold of ``--min-confidence``.

    Returns:
        Table ``min_confidence, answered, precision, recall``: the share of queries that are answered, the share of
        answers that are correct, and the share of all queries that are answered correctly. Queries of equal confidence
        are answered together.
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
