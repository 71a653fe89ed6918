"""The places that share a batch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from training_settings import training_settings
from vpr.config.errors import UserError
from vpr.data.loading import ImageList
from vpr.data.preprocess import Preprocess
from vpr.training.batches import PlaceSampler, fill_batches, near_places, similar_groups
from vpr.training.places import PlaceImages, Places


def sampler(places, describe=None, **changes):
    usual = {
        "places_per_batch": 3, "images_per_place": 2, "min_images_per_place": 2, "batches": "random", "seed": 1,
        "augment_ops": 0,
    }  # fmt: skip
    return PlaceSampler(places, training_settings(**{**usual, **changes}), describe)


def plain(batches):
    return [(batch.images, batch.labels, batch.draws.tolist()) for batch in batches]


def test_a_batch_is_places_times_images_and_an_epoch_sees_each_place_once(city):
    places = Places(city.train(), min_images=3)
    batches = list(sampler(places))
    assert len(batches) == len(places) // 3 == 2
    seen = [label for batch in batches for label in batch.labels[::2]]
    assert len(set(seen)) == len(seen) == 6
    place_of = city.train()["place_id"].to_numpy()
    for batch in batches:
        assert len(set(batch.images)) == 6
        for k in range(0, 6, 2):
            assert place_of[batch.images[k]] == place_of[batch.images[k + 1]]
            assert batch.labels[k] == batch.labels[k + 1]


def test_batches_follow_from_seed_and_epoch(city):
    places = Places(city.train(), min_images=3)
    one, two = (sampler(places, augment_ops=2) for _ in range(2))
    assert plain(one) == plain(two)
    two.set_epoch(1)
    assert plain(one) != plain(two)
    fixed = sampler(places, sample_images="first", shuffle_places=False)
    images = [b.images for b in fixed]
    fixed.set_epoch(5)
    assert [b.images for b in fixed] == images
    assert images[0][:2] == places.members[0][:2].tolist()


def test_places_with_too_few_images_are_left_out_and_too_few_places_refused(city):
    places = Places(city.train(), min_images=4)
    sizes = city.train().groupby("place_id").size()
    assert (len(places), places.num_left_out) == ((sizes >= 4).sum(), (sizes < 4).sum())
    with pytest.raises(UserError, match=f"places_per_batch is 50, but the training set has {len(places)} places"):
        sampler(places, places_per_batch=50)


@pytest.mark.parametrize("room", [0, 5 * 3 * 24 * 32, 10**9])
def test_a_batch_is_loaded_in_the_order_it_names_whatever_is_kept_decoded(city, room):
    places = Places(city.train(), min_images=3)
    images = ImageList(city.folder, places.images, Preprocess([24, 32]))
    images.keep_decoded(room, 0)
    batch = next(iter(sampler(places, augment_ops=2)))
    for _ in range(2):  # the second time from memory
        loaded = PlaceImages(images)[batch]
        assert loaded.images.dtype == torch.uint8
        assert loaded.images.equal(
            torch.stack([Preprocess([24, 32]).read(city.folder / places.images[k]) for k in batch.images])
        )
        assert loaded.labels.tolist() == batch.labels
        assert loaded.draws.shape == (6, 2)


def places_at(centres, cities=None, images=3) -> Places:
    """Places of ``images`` images each, a metre around their centres."""
    rows = pd.DataFrame(
        {
            "image": [f"{p}_{k}.jpg" for p in range(len(centres)) for k in range(images)],
            "place_id": [
                f"{(cities or ['x'] * len(centres))[p]}/{p:03}" for p in range(len(centres)) for _ in range(images)
            ],
            "utm_east": [east + k - (images - 1) / 2 for east, _ in centres for k in range(images)],
            "utm_north": [north for _, north in centres for _ in range(images)],
            "utm_zone": "32T",
        }
    )
    return Places(rows, min_images=images)


def test_batches_of_one_city_have_places_of_one_city_and_mix_the_cities():
    cities = ["a"] * 7 + ["b"] * 10 + ["c"] * 2
    places = places_at([(0.0, 0.0)] * 19, cities)
    batches = sampler(places, batches="city")
    assert len(batches) == 2 + 3
    orders = []
    for epoch in range(4):
        batches.set_epoch(epoch)
        met = [{places.cities[label] for label in batch.labels} for batch in batches]
        assert len(met) == 5
        assert all(len(city) == 1 for city in met)
        labels = [label for batch in batches for label in batch.labels[::2]]
        assert len(set(labels)) == len(labels)
        orders.append("".join(city.pop() for city in met))
    assert len(set(orders)) > 1
    assert {"".join(sorted(order)) for order in orders} == {"aabbb"}
    with pytest.raises(UserError, match="no city has places_per_batch = 11 places: a 7, b 10, c 2"):
        sampler(places, batches="city", places_per_batch=11)


def test_a_city_is_a_column_or_what_comes_before_the_place():
    rows = pd.DataFrame({"image": ["1", "2"], "place_id": ["rome/7", "rome/7"], "city": ["oslo", "oslo"]})
    rows = rows.assign(utm_east=0.0, utm_north=0.0, utm_zone="")
    assert Places(rows, 2).cities.tolist() == ["oslo"]
    assert Places(rows.drop(columns="city"), 2).cities.tolist() == ["rome"]


@given(st.data())
def test_no_two_places_of_a_batch_are_nearer_than_the_distance(data):
    centres = data.draw(st.lists(st.tuples(*[st.integers(0, 400).map(float)] * 2), min_size=6, max_size=40))
    places = places_at(centres, images=2)
    try:
        batches = list(sampler(places, min_place_distance_m=60.0))
    except UserError:
        assume(False)  # places too dense for any batch; tested below
    for batch in batches:
        met = batch.labels[::2]
        assert len(set(met)) == 3
        utm = places.centres.utm
        gaps = [np.hypot(*np.subtract(utm[a], utm[b])) for a in met for b in met if a < b]
        assert min(gaps) >= 60.0


def test_a_distance_that_is_tight_holds_for_every_epoch():
    rng = np.random.default_rng(3)
    hard = 0
    for _ in range(12):
        places = places_at([tuple(p) for p in rng.uniform(0, 1000, size=(30, 2))], images=2)
        try:
            batches = sampler(places, places_per_batch=8, min_place_distance_m=200.0)
        except UserError:
            continue
        hard += 1
        for epoch in range(30):
            batches.set_epoch(epoch)
            assert [len(set(batch.labels)) for batch in batches] == [8] * len(batches)
    assert hard > 5


def test_the_distance_counts_from_centre_to_centre():
    places = places_at([(0.0, 0.0), (30.0, 0.0), (60.0, 0.0)])
    assert near_places(places, 30.0) == [frozenset()] * 3
    assert near_places(places, 30.01) == [{1}, {0, 2}, {1}]
    places.centres.utm[1] = np.nan
    places.centres = places.centres[[0, 1, 2]]
    with pytest.raises(UserError, match="1 of 3 training places have no coordinates"):
        near_places(places, 30.0)


@given(st.permutations(range(12)), st.integers(1, 4))
def test_without_neighbours_batches_are_the_order_cut_into_pieces(order, size):
    expected = [order[k * size : (k + 1) * size] for k in range(12 // size)]
    assert fill_batches(order, 12 // size, size, []) == expected
    assert fill_batches(order, 12 // size, size, [frozenset()] * 12) == expected


def test_a_place_that_may_not_stay_goes_to_the_next_batch_and_comes_twice_only_in_need():
    near = [frozenset({1}), frozenset({0}), frozenset(), frozenset()]
    assert fill_batches([0, 1, 2, 3], 2, 2, near) == [[0, 2], [1, 3]]
    # 0, 1 and 2 exclude each other; only 3 can be with any of them.
    near = [frozenset({1, 2}), frozenset({0, 2}), frozenset({0, 1}), frozenset()]
    assert fill_batches([0, 1, 2, 3], 2, 2, near) == [[0, 3], [1, 3]]
    with pytest.raises(UserError, match="no other place is far enough from all 2 places"):
        fill_batches([0, 1, 2, 3], 1, 3, near)


def test_similar_places_are_grouped_each_once():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 16))
    kind = rng.permutation(np.repeat(np.arange(5), 4))
    descriptors = (centres[kind] + 0.05 * rng.normal(size=(20, 16))).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    groups = similar_groups(descriptors, 4, rng.permutation(20).tolist())
    assert sorted(place for group in groups for place in group) == list(range(20))
    assert [len({kind[place] for place in group}) for group in groups] == [1] * 5


def test_similar_batches_have_groups_that_look_similar_and_follow_from_seed_epoch_and_model():
    kind = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 2))
    places = places_at([(100.0 * k, 0.0) for k in range(12)])
    asked = []

    def describe(images):
        asked.append(images)
        assert [image // 3 for image in images] == list(range(12)), "one image of each place"
        return np.eye(6, dtype=np.float32)[kind]

    options = {"batches": "similar", "similar_places": 2, "places_per_batch": 4, "describe": describe}
    one, two = sampler(places, **options), sampler(places, **options)
    first = list(one)
    assert plain(first) == plain(two)
    assert len(first) == len(one) == 3
    for batch in first:
        kinds = [kind[label] for label in batch.labels[::2]]
        assert len(set(kinds)) == 2
        assert kinds[0] == kinds[1]
        assert kinds[2] == kinds[3]
    one.set_epoch(1)
    assert plain(one) != plain(first)
    assert len(asked) == 3
    assert asked[0] == asked[1] != asked[2], "another epoch shows other images"


def two_sources(shares: tuple[float, float]) -> Places:
    """Twelve places of one source and four of another, in groups of three."""
    rows = pd.DataFrame(
        {
            "image": [f"{k}.jpg" for k in range(32)],
            "place_id": [f"{k // 2:02d}" for k in range(32)],
            "source": ["large" if k < 24 else "small" for k in range(32)],
            "share": [shares[0] if k < 24 else shares[1] for k in range(32)],
            "group": [str(k // 2 % 3) for k in range(32)],
            "utm_east": 0.0,
            "utm_north": 0.0,
            "utm_zone": "",
        }
    )
    return Places(rows, 2)


def test_each_source_has_its_share_of_every_batch_and_the_one_that_lasts_longest_is_seen_once():
    places = two_sources((0.7, 0.3))
    batches = list(sampler(places, places_per_batch=4))
    assert len(batches) == 12 // 3
    of_large = [label for batch in batches for label in batch.labels[::2] if places.sources[label] == "large"]
    assert sorted(of_large) == list(range(12))
    for batch in batches:
        assert [places.sources[label] for label in batch.labels[::2]] == ["large"] * 3 + ["small"]
    small = [label for batch in batches for label in batch.labels[::2] if places.sources[label] == "small"]
    assert sorted(small) == [12, 13, 14, 15]


def test_shares_that_can_t_be_kept_are_refused():
    with pytest.raises(UserError, match="small has 4 places, and its share of a batch is 0 of 4"):
        sampler(two_sources((0.95, 0.05)), places_per_batch=4)
    with pytest.raises(UserError, match="need random batches"):
        sampler(two_sources((0.5, 0.5)), places_per_batch=4, batches="group")


def test_batches_of_groups_mix_none():
    places = two_sources((0.0, 0.0))
    batches = list(sampler(places, places_per_batch=2, batches="group"))
    assert len(batches) == 3 + 2 + 2
    assert all(len({places.groups[label] for label in batch.labels}) == 1 for batch in batches)
    with pytest.raises(UserError, match="no group has places_per_batch = 9 places"):
        sampler(places, places_per_batch=9, batches="group")
