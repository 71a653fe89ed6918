"""The warning about places that are too large to learn from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vpr.verification.likeness import cautions, place_likeness, same_drive


@pytest.fixture
def places(tmp_path):
    """Make places of four images: of one pattern each, with so much noise of their own."""

    def make(noise: float, num_places: int = 20) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        rows = []
        for place in range(num_places):
            pattern = rng.normal(size=(12, 16))
            for number in range(4):
                pixels = 128 + 30 * (pattern + noise * rng.normal(size=pattern.shape))
                image = f"{noise}-{place}-{number}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / image)
                rows.append({"image": image, "place_id": str(place)})
        return pd.DataFrame(rows)

    return make


def test_places_that_look_like_themselves_are_told_from_places_that_do_not(places, tmp_path):
    assert place_likeness(tmp_path, places(0.1)) == 1.0
    assert place_likeness(tmp_path, places(100.0, num_places=60)) == pytest.approx(0.5, abs=0.04)
    shuffled = places(0.1, num_places=60)
    shuffled["place_id"] = np.random.default_rng(1).permutation(shuffled["place_id"])
    assert place_likeness(tmp_path, shuffled) == pytest.approx(0.5, abs=0.05)


def test_it_is_the_share_of_pairs_that_a_count_of_all_of_them_gives(places, tmp_path):
    rows = places(1.5, num_places=12)
    vectors = []
    for image in rows["image"]:
        with Image.open(tmp_path / image) as opened:
            vectors.append(np.asarray(opened, dtype=float).ravel())
    same, other = [], []
    for i in range(len(rows)):
        for j in range(i):
            values = same if rows["place_id"][i] == rows["place_id"][j] else other
            values.append(np.corrcoef(vectors[i], vectors[j])[0, 1])
    expected = np.mean([a > b for a in same for b in other])
    assert place_likeness(tmp_path, rows) == pytest.approx(expected, abs=2e-3)


def test_too_little_says_nothing(places, tmp_path):
    rows = places(0.1, num_places=3)
    assert place_likeness(tmp_path, rows) is None
    assert place_likeness(tmp_path, rows.groupby("place_id").head(1)) is None
    assert place_likeness(tmp_path, rows.head(0)) is None


@pytest.mark.parametrize(
    ("train", "num_wide", "expected"),
    [
        ({"place_likeness": 0.61}, 0, []),
        ({}, 0, []),
        ({"place_likeness": 0.5}, 0, ["in 50 of 100 comparisons, where chance gives 50"]),
        ({"place_likeness": 0.61}, 1, ["1 training place is more than 50 m wide"]),
        ({"place_likeness": 0.61}, 1200, ["1,200 training places are more than 50 m wide"]),
    ],
)
def test_it_is_said_in_a_sentence(train, num_wide, expected):
    said = cautions({"train": train, "num_wide_places": num_wide})
    assert len(said) == len(expected)
    assert all(part in sentence for part, sentence in zip(expected, said, strict=True))


def test_queries_of_a_drive_that_is_in_the_database_are_counted():
    database = pd.DataFrame({"sequence": ["monday", "monday", "tuesday", ""]})
    queries = pd.DataFrame({"sequence": ["monday", "friday", "tuesday", "", "friday"]})
    assert same_drive(queries, database) == 0.4
    assert same_drive(queries[queries["sequence"] == "friday"], database) == 0
    assert same_drive(queries.assign(sequence=""), database) is None, "no drives are known"
    assert same_drive(queries.drop(columns="sequence"), database) is None
    walks = queries.assign(sequence="frames", positive_frames="1 2")
    assert same_drive(walks, database.assign(sequence="frames")) is None, "two walks along one route"
    said = cautions({"train": {}, "num_wide_places": 0, "same_drive": {"val": 0.28, "test": 0.0}})
    assert len(said) == 1
    assert said[0].startswith("28 % of the queries of val are from a drive that is in its database too")
