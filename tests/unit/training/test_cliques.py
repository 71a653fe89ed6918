"""Batches of cliques: what is one place is near, and what is not is far, by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training_settings import training_settings
from vpr.config.errors import UserError
from vpr.training.cliques import CliqueSampler, clique_with, near_images

NEAR_M = 25.0


def street(number: int, spacing_m: float, heading: float = np.nan) -> pd.DataFrame:
    east = np.arange(number) * spacing_m
    return pd.DataFrame({"utm_east": east, "utm_north": 0.0, "utm_zone": "32T", "heading": heading})


def ring(chosen: list[int]) -> np.ndarray:
    """Images 300 apart look the same."""
    angle = 2 * np.pi * (np.array(chosen) % 300) / 300
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def sampler(rows: pd.DataFrame, seed: int = 0, describe=ring) -> CliqueSampler:
    chosen = training_settings(
        batches="cliques", places_per_batch=6, images_per_place=3, min_images_per_place=3, similar_places=3,
        clique_m=NEAR_M, seed=seed, augment_ops=1,
    )  # fmt: skip
    return CliqueSampler(rows, chosen, describe)


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.integers(0, 5))
def test_images_of_a_place_are_near_and_those_of_two_places_of_a_batch_are_not(seed, epoch):
    rows = street(600, 10.0)
    batches = sampler(rows, seed)
    batches.set_epoch(epoch)
    found = list(batches)
    assert len(found) == len(batches) == 600 // 18
    for batch in found:
        assert len(set(batch.images)) == 18
        assert sorted(np.unique(batch.labels, return_counts=True)[1]) == [3] * 6
        east, label = rows["utm_east"].to_numpy()[batch.images], np.array(batch.labels)
        assert ((np.abs(east[:, None] - east) <= NEAR_M) == (label[:, None] == label)).all()
    assert len({label for batch in found for label in batch.labels}) == 6 * len(found)


def test_a_batch_holds_what_looks_alike_far_away():
    rows = street(600, 10.0)
    alike = 0
    for batch in sampler(rows):
        places = np.array(batch.images).reshape(6, 3)[:, 0]
        alike += sum(any(abs(abs(int(a) - int(b)) - 300) <= 20 for b in places) for a in places)
    in_random_batches = 6 * 33 * 5 * 41 / 600
    assert alike > 2 * in_random_batches


def test_batches_follow_from_seed_and_epoch():
    rows = street(200, 10.0)
    one, same, other = sampler(rows), sampler(rows), sampler(rows, seed=1)
    assert [b.images for b in one] == [b.images for b in same]
    assert [b.images for b in one] != [b.images for b in other]
    same.set_epoch(1)
    assert [b.images for b in one] != [b.images for b in same]


def test_a_view_the_other_way_is_not_near():
    rows = pd.concat([street(2, 10.0, 350.0), street(2, 10.0, 10.0), street(2, 10.0, 180.0)], ignore_index=True)
    assert near_images(rows, NEAR_M) == [{0, 1, 2, 3}] * 4 + [{4, 5}] * 2


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.integers(1, 4))
def test_a_clique_is_one_and_where_none_is_found_from_an_image_alone_on_a_line_there_is_none(positions, size):
    near = [{k for k, other in enumerate(positions) if abs(one - other) <= 25} for one in positions]
    found = clique_with(0, near, set(), size)
    if found is not None:
        assert len(set(found)) == size
        assert all(b in near[a] for a, b in itertools.combinations(found, 2))
    if size <= 2:  # a pair is found whenever there is one
        assert (found is None) == (len(near[0]) < size)
    assert clique_with(0, near, near[0] - {0}, 2) is None, "what is taken is in no clique"


def test_too_few_places_and_images_without_a_position_are_refused():
    with pytest.raises(UserError, match="not 6 places of 3 images each"):
        sampler(street(30, 1.0))
    with pytest.raises(UserError, match="2 of 30 training images have no coordinates"):
        sampler(street(30, 1.0).assign(utm_east=[np.nan] * 2 + [0.0] * 28))
