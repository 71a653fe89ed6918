"""Descriptors less the mean of their set, from what that means."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpr.evaluation.centring import without_mean
from vpr.retrieval.search import search


@given(st.integers(2, 20), st.integers(2, 8), st.integers(0, 2**16))
def test_what_all_descriptors_share_changes_nothing(number, dim, seed):
    rng = np.random.default_rng(seed)
    descriptors, shared = rng.normal(size=(number, dim)), rng.normal(size=dim)
    np.testing.assert_allclose(without_mean(descriptors), without_mean(descriptors + shared), atol=1e-9)
    expected = [d - sum(descriptors) / number for d in descriptors]
    np.testing.assert_allclose(without_mean(descriptors), [e / np.sqrt(sum(e**2)) for e in expected], atol=1e-9)


def test_a_night_that_lies_on_all_queries_is_taken_from_them():
    """All queries are nearest to the one database image that looks most like the night."""
    places = np.eye(6, dtype=np.float32)
    night = np.float32([0, 0, 0, 0, 0, 3])
    queries = (places[:5] + night) / np.linalg.norm(places[:5] + night, axis=1, keepdims=True)
    assert search(places, queries, 1)[0].ravel().tolist() == [5] * 5
    assert search(without_mean(places), without_mean(queries), 1)[0].ravel().tolist() == [0, 1, 2, 3, 4]


def test_a_set_of_equal_descriptors_has_nothing_left():
    assert (without_mean(np.ones((3, 2), np.float32) / np.sqrt(np.float32(2))) == 0).all()
    assert without_mean(np.zeros((0, 2), np.float32)).shape == (0, 2)
