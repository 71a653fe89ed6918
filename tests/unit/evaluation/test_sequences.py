"""A drive as a hidden Markov model, against the sum over all paths."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr.config.errors import UserError
from vpr.evaluation.sequences import drives, rank_drives, smoothed, transitions
from vpr.retrieval.params import SequenceParams

PARAMS = SequenceParams(reach=1, step_m=None, jump=0.1, temperature=0.2)


def frames(number: int, sequence: str = "a") -> pd.DataFrame:
    return pd.DataFrame({"image": [f"{k}.jpg" for k in range(number)], "sequence": sequence, "timestamp": ""})


def test_a_drive_is_in_the_order_of_its_times_and_then_of_its_names():
    rows = pd.DataFrame(
        {
            "image": ["10.jpg", "9.jpg", "b.jpg", "a.jpg", "x.jpg"],
            "sequence": ["one", "one", "two", "two", ""],
            "timestamp": ["", "", "2019", "2020", "2018"],
        }
    )
    assert [drive.tolist() for drive in drives(rows)] == [[1, 0], [2, 3]]
    assert drives(rows.drop(columns="sequence")) == []


def test_the_camera_goes_on_within_its_reach_and_not_from_one_drive_to_another():
    database = pd.concat([frames(3), frames(2, "b")], ignore_index=True)
    expected = [[1 / 2, 1 / 2, 0, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0, 0], [0, 1 / 2, 1 / 2, 0, 0]]
    assert np.allclose(transitions(database, PARAMS).toarray()[:3], expected)
    assert np.allclose(transitions(database, PARAMS).toarray()[3:, 3:], 0.5)


def test_without_an_order_it_goes_on_to_what_is_near():
    database = pd.DataFrame(
        {"utm_east": [0.0, 8.0, 16.0], "utm_north": 0.0, "utm_zone": "32T", "image": ["a", "b", "c"]}
    )
    go_on = transitions(database, PARAMS.model_copy(update={"step_m": 10.0}))
    assert np.allclose(go_on.toarray(), [[1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1 / 2, 1 / 2]])


@given(st.integers(1, 4), st.integers(2, 4), st.randoms(use_true_random=False))
def test_the_probabilities_are_those_of_all_paths(length, number, random):
    similarities = np.array([[random.uniform(-1, 1) for _ in range(number)] for _ in range(length)])
    go_on = transitions(frames(number), PARAMS)
    step = (1 - PARAMS.jump) * go_on.toarray() + PARAMS.jump / number
    expected = np.zeros((length, number))
    for path in itertools.product(range(number), repeat=length):
        weight = np.prod([np.exp(similarities[t, state] / PARAMS.temperature) for t, state in enumerate(path)])
        weight *= np.prod([step[a, b] for a, b in itertools.pairwise(path)])
        for t, state in enumerate(path):
            expected[t, state] += weight
    expected /= expected.sum(axis=1, keepdims=True)
    assert np.allclose(smoothed(similarities, go_on, PARAMS), expected, atol=1e-9)


def test_a_query_that_looks_like_elsewhere_is_put_right_by_those_around_it():
    rng = np.random.default_rng(0)
    database = rng.normal(size=(30, 16)).astype(np.float32)
    database /= np.linalg.norm(database, axis=1, keepdims=True)
    queries = database[10:15].copy()
    queries[2] = database[25]
    alone = np.argsort(-(queries @ database.T), axis=1)[:, 0]
    ranking = rank_drives(frames(30), frames(5), database, queries, 3, PARAMS)
    assert alone.tolist() == [10, 11, 25, 13, 14]
    assert ranking[:, 0].tolist() == [10, 11, 12, 13, 14]


def test_a_database_in_no_order_is_refused_with_what_it_needs_and_a_query_in_none_is_not_found():
    descriptors = np.eye(3, dtype=np.float32)
    unordered = frames(3).drop(columns="sequence")
    assert (rank_drives(frames(3), unordered, descriptors, descriptors, 1, PARAMS) == -1).all()
    with pytest.raises(UserError, match="needs an ordered database"):
        rank_drives(unordered, frames(3), descriptors, descriptors, 1, PARAMS)
