"""Ranking, positives and recall, from their definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr.config.errors import UserError
from vpr.data.positions import Positions, near
from vpr.evaluation.evaluation import compare_rankings, evaluate_ranking
from vpr.retrieval.params import EvaluateParams
from vpr.retrieval.positives import positives_by_place, positives_of
from vpr.retrieval.recall import is_positive, recall_at
from vpr.retrieval.search import approximate_index, check_search, exact_index, search, search_in, size_bytes
from vpr.sources.standard_naming import parse_name


def unit_vectors(degrees: list[float]) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_recall_counts_a_query_from_the_rank_of_its_first_positive():
    # Seen from the query at 80 degrees the database ranks 90, 0, 180; only 0 is a positive.
    ranking, _ = search(database=unit_vectors([0, 90, 180]), queries=unit_vectors([80]), k=3)
    assert ranking.tolist() == [[1, 0, 2]]
    assert recall_at(ranking, positives=[[0]], ns=[1, 2, 3]) == {1: 0.0, 2: 1.0, 3: 1.0}


def test_search_returns_l2_distances_and_no_more_neighbours_than_there_are():
    ranking, distances = search(unit_vectors([0, 60]), unit_vectors([0]), k=5)
    assert ranking.tolist() == [[0, 1]]
    assert distances == pytest.approx(np.array([[0.0, 1.0]]), abs=1e-6)  # 60 degrees apart on the unit circle


def test_search_refuses_what_it_can_t_rank():
    with pytest.raises(ValueError, match="same dimension"):
        search(np.zeros((2, 3), np.float32), np.zeros((1, 2), np.float32), 1)
    with pytest.raises(UserError, match="queries: 1 descriptors are not finite"):
        search(unit_vectors([0]), np.full((1, 2), np.nan, np.float32), 1)
    with pytest.raises(UserError, match="database is empty"):
        search(np.zeros((0, 2), np.float32), unit_vectors([0]), 1)


def test_a_search_in_blocks_is_that_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    database, queries = (rng.normal(size=(n, 8)).astype(np.float32) for n in (1000, 30))
    whole = search(database, queries, 20)
    monkeypatch.setattr("vpr.retrieval.search._BLOCK_BYTES", 7 * 8 * 4)  # blocks of fewer rows than neighbours
    blocks = search(database.astype(np.float64), queries, 20)
    assert np.array_equal(whole[0], blocks[0])
    assert np.allclose(whole[1], blocks[1], atol=1e-5)
    assert np.array_equal(whole[0], search_in(exact_index(database), queries, 20)[0])


@pytest.mark.parametrize("factory", ["Flat", "SQfp16", "SQ8", "RaBitQ,RFlat", "IVF8,Flat", "HNSW16", "PQ32x4"])
def test_an_approximate_index_finds_most_of_what_an_exact_search_does(factory):
    rng = np.random.default_rng(0)
    database = rng.normal(size=(2000, 32)).astype(np.float32)
    database /= np.linalg.norm(database, axis=1, keepdims=True)
    queries = database[:50] + 0.02 * rng.normal(size=(50, 32)).astype(np.float32)
    exact, _ = search(database, queries, 10)
    index = approximate_index(factory, database)
    found, distances = search_in(index, queries, 10)
    compared = compare_rankings(exact, found, [[k] for k in range(50)], [1, 10])
    assert set(compared) == {f"index_{what}_at_{n}" for what in ("agreement", "recall") for n in (1, 10)}
    assert compared["index_recall_at_1"] > 0.9
    assert compared["index_agreement_at_10"] == pytest.approx(
        np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), found.tolist(), strict=True)])
    )
    if factory in ("Flat", "SQfp16"):
        assert compared["index_agreement_at_10"] > 0.95
    assert np.isfinite(distances[found >= 0]).all()
    assert np.isinf(distances[found < 0]).all()
    expected = {"Flat": 128, "SQfp16": 64, "SQ8": 32, "PQ16": 16}.get(factory)
    if expected is not None:
        assert expected <= size_bytes(index) / 2000 < expected + 20


@pytest.mark.parametrize(("factory", "number"), [("Nope", 100), ("PQ7", 100), ("IVF64,Flat", 10)])
def test_an_index_that_faiss_does_not_make_is_refused(factory, number):
    with pytest.raises(UserError, match=f"evaluate.index is '{factory}', but FAISS cannot build such an index of "):
        approximate_index(factory, np.eye(32, dtype=np.float32)[np.arange(number) % 32])


def test_an_index_is_refused_before_any_work_for_the_size_that_descriptors_will_have():
    params = EvaluateParams(
        recall_at=[1], positive_radius_m=25.0, num_predictions=1, centred=False, index="PQ48", sequence=None,
        faiss_gpu=False,
    )  # fmt: skip
    check_search(params, 384)
    with pytest.raises(UserError, match="cannot build such an index of descriptors of 512"):
        check_search(params, 512)


def test_gpu_search_without_a_gpu_says_so():
    import faiss

    if hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="faiss_gpu"):
        search(unit_vectors([0]), unit_vectors([0]), 1, gpu=True)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**16))
def test_search_is_exact(num_database, num_queries, seed):
    rng = np.random.default_rng(seed)
    database = rng.normal(size=(num_database, 4)).astype(np.float32)
    queries = rng.normal(size=(num_queries, 4)).astype(np.float32)
    ranking, distances = search(database, queries, num_database)
    true = np.linalg.norm(queries[:, None].astype(np.float64) - database[None].astype(np.float64), axis=2)
    assert np.allclose(distances, np.sort(true, axis=1), atol=1e-3)
    assert np.allclose(np.take_along_axis(true, ranking, axis=1), np.sort(true, axis=1), atol=1e-3)


def on_map(utm):
    return Positions(utm, np.full(len(utm), "", dtype=object))


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=20),
    st.tuples(st.floats(0, 100), st.floats(0, 100)),
    st.floats(0.5, 60),
)
def test_positives_are_those_of_the_definition(database, query, radius_m):
    points = np.array(database)
    metres = np.hypot(*(points - np.array(query)).T)
    border = np.abs(metres - radius_m) < 1e-6
    found = near(on_map(points), on_map(np.array([query])), radius_m)[0].tolist()
    assert set(found) - set(np.flatnonzero(border)) == set(np.flatnonzero((metres < radius_m) & ~border))


def test_without_coordinates_the_same_place_is_a_positive():
    found = positives_by_place(["a", "b", "a"], ["a", "c"])
    assert [p.tolist() for p in found] == [[0, 2], []]


@given(st.integers(1, 12), st.integers(1, 10), st.integers(0, 2**16))
def test_recall_grows_with_n_and_a_query_without_positive_is_never_found(num_queries, k, seed):
    rng = np.random.default_rng(seed)
    ranking = np.argsort(rng.random((num_queries, 12)), axis=1)[:, :k]
    positives = [np.flatnonzero(rng.random(12) < 0.2) for _ in range(num_queries)]
    recalls = list(recall_at(ranking, positives, range(1, k + 1)).values())
    assert recalls == sorted(recalls)
    assert recalls[-1] <= np.mean([len(p) > 0 for p in positives]) + 1e-12
    assert recalls[0] == pytest.approx(is_positive(ranking, positives)[:, 0].mean())


def rows(places: list[str], east: list[float] | None = None, **columns: list) -> pd.DataFrame:
    n = len(places)
    return pd.DataFrame(
        {
            "image": [f"{k}.jpg" for k in range(n)],
            "role": "query",
            "set": "s",
            "place_id": places,
            "utm_east": east if east else [float("nan")] * n,
            "utm_north": [0.0] * n if east else [float("nan")] * n,
            "utm_zone": "32T",
            "heading": [0.0] * n,
            "timestamp": "",
            **columns,
        }
    )


def test_an_evaluation_holds_counts_recalls_errors_conditions_and_predictions():
    database = rows(["", ""], [0.0, 100.0])
    queries = rows(["", "", ""], [10.0, 90.0, 20.0], light=["day", "night", "day"], model=["a", "b", "c"])
    ranking = np.array([[0, 1], [0, 1], [0, 1]])
    found = np.array([[0, -1], [1, 0], [0, 1]])  # by an approximate index
    result = evaluate_ranking(ranking, np.zeros((3, 2), np.float32), database, queries, [1, 2], 25.0, found)
    assert result.metrics["recall_at_1"] == pytest.approx(2 / 3)
    assert result.metrics["index_recall_at_1"] == 1.0
    assert result.metrics["index_agreement_at_1"] == pytest.approx(2 / 3)
    assert result.metrics["index_agreement_at_2"] == pytest.approx(5 / 6)
    assert result.metrics["recall_at_2"] == 1.0
    assert result.metrics["num_queries_without_positives"] == 0
    assert result.metrics["median_error_m"] == 20.0  # the median of 10, 90 and 20
    by_light = result.conditions[result.conditions["condition"] == "light"].set_index("value")
    assert by_light.loc["day", "recall_at_1"] == 1.0
    assert by_light.loc["night", "num_queries"] == 1
    assert "model" in set(result.conditions["condition"])
    assert result.predictions.is_positive.tolist() == [[True, False], [False, True], [True, False]]
    assert result.predictions.distance_m.tolist() == [[10.0, 90.0], [90.0, 10.0], [20.0, 80.0]]


def test_an_unlabelled_set_gets_predictions_and_no_recall():
    database, queries = rows(["", ""]), rows([""])
    assert positives_of(database, queries, 25.0) is None
    result = evaluate_ranking(np.array([[1, 0]]), np.ones((1, 2), np.float32), database, queries, [1], 25.0)
    assert not [key for key in result.metrics if key.startswith("recall")]
    assert result.predictions.images.tolist() == [["1.jpg", "0.jpg"]]
    assert result.predictions.is_positive is None


def test_positives_and_recalls_of_sf_xs_val_equal_the_authors(shared):
    folder = shared / "seed_results"
    database = pd.read_csv(folder / "sfxs_val_database.csv.gz")["image"]
    queries = pd.read_csv(folder / "sfxs_val_queries.csv.gz")
    assert (len(database), len(queries)) == (8015, 7993)

    def utm(names):
        parsed = [parse_name(name) for name in names]
        return on_map(np.array([[p.utm_east, p.utm_north] for p in parsed]))

    positives = near(utm(database), utm(queries["image"]), 25.0)
    theirs = [[int(i) for i in str(text).split()] for text in queries["positives"]]
    assert [p.tolist() for p in positives] == [sorted(t) for t in theirs]
    for row in pd.read_csv(folder / "expected.csv").itertuples():
        ranking = np.load(folder / f"sfxs_val_predictions_{row.predictions}.npy")
        recalls = recall_at(ranking, positives, [1, 5])
        assert recalls == {1: row.recall_at_1, 5: row.recall_at_5}
