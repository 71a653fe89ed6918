"""Confidence against its definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr.config.errors import UserError
from vpr.localization.confidence import (
    calibration_error,
    confidence_inputs,
    fit_calibration,
    is_other_place,
    precision_recall,
    reliability,
)


def rows(east, zone="32T", place="") -> pd.DataFrame:
    return pd.DataFrame({"utm_east": east, "utm_north": 0.0, "utm_zone": zone, "place_id": place}, dtype=object).astype(
        {"utm_east": float, "utm_north": float}
    )


def test_the_gap_is_to_the_nearest_prediction_of_another_place():
    apart = is_other_place(rows([0.0, 20.0, 26.0, 100.0]), 1, radius_m=25.0)
    assert apart.tolist() == [[False, False, True, True]]
    assert confidence_inputs(np.array([[0.5, 0.6, 0.9, 1.0]]), apart).tolist() == [[0.5, pytest.approx(0.4)]]
    near = is_other_place(rows([0.0, 20.0, 10.0]), 1, radius_m=25.0)
    assert confidence_inputs(np.array([[0.5, 0.6, 0.9]]), near).tolist() == [
        [0.5, pytest.approx(0.4)]
    ]  # the last stands in


def test_another_zone_is_another_place_and_without_coordinates_places_count():
    assert is_other_place(rows([0.0, 0.0], zone=["32T", "33T"]), 1, 25.0).tolist() == [[False, True]]
    places = rows([np.nan] * 3, zone="", place=["a", "a", "b"])
    assert is_other_place(places, 1, 25.0).tolist() == [[False, False, True]]
    assert is_other_place(rows([np.nan] * 2, zone=""), 1, 25.0).tolist() == [[False, True]]


def answers(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and answers that are right with the probability of a logistic function of them."""
    rng = np.random.default_rng(seed)
    found = np.stack([rng.uniform(0.5, 1.2, number), rng.exponential(0.1, number)], axis=1)
    truth = 1 / (1 + np.exp(-(20 * (found[:, 1] - 0.1) - 3 * (found[:, 0] - 0.85))))
    return found, rng.random(number) < truth


def test_confidence_is_the_probability_of_being_right():
    calibration = fit_calibration(*answers(4000), "city", "val", "within 25 m", 20)
    found, correct = answers(4000, seed=1)
    confidence = calibration.confidence(found)
    assert calibration_error(confidence, correct) < 0.03
    assert ((confidence > 0) & (confidence < 1)).all()
    bins = reliability(confidence, correct)
    assert bins["num_queries"].sum() == 4000
    assert bins["confidence"].is_monotonic_increasing


@pytest.mark.parametrize("right", [True, False])
def test_where_all_or_none_are_right_the_rate_itself_is_the_confidence(right):
    found, _ = answers(48)
    calibration = fit_calibration(found, np.full(48, right), "city", "val", "within 25 m", 20)
    assert calibration.confidence(found) == pytest.approx(49 / 50 if right else 1 / 50)


def test_too_few_queries_teach_nothing():
    with pytest.raises(UserError, match="set val has 19 queries; confidence is learnt from at least 20"):
        fit_calibration(*answers(19), "city", "val", "within 25 m", 20)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.4, 0.4, 0.9]), st.booleans()), min_size=1, max_size=30))
def test_precision_and_recall_are_those_of_the_answers_above_a_confidence(pairs):
    confidence, correct = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    table = precision_recall(confidence, correct)
    assert table["min_confidence"].is_unique
    for _, row in table.iterrows():
        given_out = confidence >= row["min_confidence"]
        assert row["answered"] == pytest.approx(given_out.mean())
        assert row["precision"] == pytest.approx(correct[given_out].mean())
        assert row["recall"] == pytest.approx((correct & given_out).mean())
