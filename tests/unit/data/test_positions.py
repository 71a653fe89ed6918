"""Two positions are near when they are near on the Earth, whatever zone, hemisphere or table they are in."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr.data.coordinates import is_zone, metres_apart, plain_zones, to_degrees, to_utm
from vpr.data.positions import Plane, Positions, near, one_grid_where_near

EQUATOR_M, MERIDIAN_M = 111_319.4908, 110_574.2758  # a degree along the equator, and along a meridian there, WGS 84

ROUNDING_M = 0.06  # coordinates are rounded to centimetres, and six degrees off a zone's middle UTM is less exact


def at(*degrees: tuple[float, float]) -> Positions:
    lat, lon = np.array(degrees, dtype=float).reshape(-1, 2).T
    east, north, zones = to_utm(lat, lon)
    return Positions(np.stack([east, north], axis=1), np.array(zones, dtype=object))


def on_map(*metres: tuple[float, float], zones: list[str] | None = None) -> Positions:
    return Positions(np.array(metres, dtype=float), np.array(zones or [""] * len(metres), dtype=object))


def lists(found) -> list[list[int]]:
    return [numbers.tolist() for numbers in found]


BORDERS = {
    "zones": ((0.0, 5.9999), (0.0, 6.0001), 0.0002 * EQUATOR_M),
    "equator": ((0.0001, 9.0), (-0.0001, 9.0), 0.0002 * MERIDIAN_M),
    "date line": ((0.0, 179.9999), (0.0, -179.9999), 0.0002 * EQUATOR_M),
    "zones and equator": ((0.0001, 5.9999), (-0.0001, 6.0001), 0.0002 * np.hypot(EQUATOR_M, MERIDIAN_M)),
    "band": ((48.0001, 9.0), (47.9999, 9.0), 22.24),
    "zone 32 of Norway": ((60.0, 2.9999), (60.0, 3.0001), 11.16),
}


@pytest.mark.parametrize("border", BORDERS)
def test_a_border_separates_nothing(border):
    one, other, metres = BORDERS[border]
    pair, far = at(one, other), at(*[(50.0, 80.0)] * 7)
    assert pair[[0]].metres_to(pair[[1]]) == pytest.approx(metres, abs=ROUNDING_M)
    for around in (pair, Positions(np.concatenate([pair.utm, far.utm]), np.concatenate([pair.zones, far.zones]))):
        assert lists(near(around, pair, metres + ROUNDING_M)) == [[0, 1], [0, 1]]
        assert lists(near(around, pair, metres - ROUNDING_M)) == [[0], [1]]


@given(
    st.sampled_from([(0.0, 6.0), (52.5, 12.0), (0.0, 180.0), (-17.0, 180.0), (72.0, 9.0), (64.0, 3.0)]),
    st.lists(st.tuples(st.floats(-60, 60), st.floats(-60, 60)), min_size=2, max_size=12),
    st.floats(1, 50),
)
def test_neighbours_at_any_border_are_those_on_the_sphere(corner, offsets, radius_m):
    lat0, lon0 = corner
    north, east = np.array(offsets).T / 111_195  # degrees of a great circle
    lat, lon = lat0 + north, (lon0 + east / np.cos(np.radians(lat0)) + 180) % 360 - 180
    places = at(*zip(lat, lon, strict=True))
    apart = metres_apart(lat[:, None], lon[:, None], lat, lon)
    found = near(places, places, radius_m)
    for own, others in enumerate(found):
        # The sphere differs from the ellipsoid by up to 0.6 %, and a grid by 0.1 %.
        assert set(np.flatnonzero(apart[own] < radius_m * 0.99 - 0.02)) <= set(others.tolist())
        assert set(others.tolist()) <= set(np.flatnonzero(apart[own] < radius_m * 1.01 + 0.02))
        exact = places[others].metres_to(places[np.full(len(others), own)])
        assert (exact <= radius_m + 1e-6).all()


def test_within_a_grid_the_radius_includes_its_border():
    database = on_map((0, 0), (25, 0), (25.01, 0), zones=["32T", "32U", "32T"])
    assert lists(near(database, on_map((0, 0), zones=["32T"]), 25.0)) == [[0, 1]]


def test_metres_on_a_map_are_near_each_other_alone():
    database = on_map((0, 0), (3, 4), (0, 0), zones=["", "", "32T"])
    assert lists(near(database, on_map((0, 0)), 5.0)) == [[0, 1]]
    assert database[[0]].metres_to(database[[2]]) == np.inf


def test_unknown_positions_are_near_nothing():
    database = on_map((np.nan, np.nan), (0, 0), zones=["", "32T"])
    assert lists(near(database, database, 5.0)) == [[], [1]]
    assert database[[0]].metres_to(database[[1]]) == np.inf


def test_hemispheres_that_are_written_as_bands_are_recognised():
    sao_paulo, berlin = 7_394_588.0, 5_820_000.0
    zones = plain_zones(
        ["23S", "10S", "33N", "05T", "31N", "", "99S"], np.array([sao_paulo, 4.18e6, berlin, 5e6, 3e5, 1, 1])
    )
    assert zones == ["23K", "10S", "33U", "5T", "31N", "", "99S"]
    (lat,), _ = to_degrees(np.array([333_000.0]), np.array([sao_paulo]), zones[:1])
    assert lat == pytest.approx(-23.55, abs=0.01)


def test_zones_are_read_in_every_spelling_and_the_latitude_settles_the_hemisphere():
    north = np.array([5e6, 5e6, 4.2e6, 4.2e6, 1.0])
    zones = plain_zones(["32t", "32 T", "19S", "19S", "odd"], north, np.array([45.0, 45.0, -52.3, 38.0, np.nan]))
    assert zones == ["32T", "32T", "19F", "19S", "odd"]


def test_many_photos_of_a_town_at_a_border_are_put_into_one_grid_quickly():
    rng = np.random.default_rng(0)
    places = at(*zip(52.52 + rng.uniform(-0.01, 0.01, 50_000), 12.0 + rng.uniform(-0.015, 0.015, 50_000), strict=True))
    began = time.perf_counter()
    assert len(set(one_grid_where_near(places, 75.0).zones)) == 1
    assert time.perf_counter() - began < 10, "not quadratic"


def test_a_town_at_a_border_gets_one_grid_and_others_keep_theirs():
    town = [(52.52, 11.9999), (52.52, 12.0001), (52.52, 12.0003)]
    places = at(*town, (53.55, 10.0))
    one = one_grid_where_near(places, 30.0)
    assert one.zones.tolist() == ["33U", "33U", "33U", "32U"]
    np.testing.assert_array_equal(one.utm[1:], places.utm[1:])
    assert one[[0]].metres_to(one[[1]]) == pytest.approx(places[[0]].metres_to(places[[1]]), rel=1e-3)
    np.testing.assert_array_equal(one_grid_where_near(places[[1, 2]], 30.0).utm, places.utm[[1, 2]])


@pytest.mark.parametrize("border", BORDERS)
def test_a_plane_keeps_distances_and_degrees_across_borders(border):
    one, other, metres = BORDERS[border]
    places = at(one, other)
    plane = Plane([places[[0]], places[[1]]])
    drawn = np.concatenate([plane.metres(places[[k]]) for k in (0, 1)])
    assert np.hypot(*(drawn[0] - drawn[1])) == pytest.approx(metres, rel=0.01)
    lat, lon = plane.degrees(drawn)
    assert metres_apart(lat, lon, *np.array([one, other]).T) == pytest.approx([0, 0], abs=ROUNDING_M)


def test_the_plane_of_one_grid_has_its_coordinates():
    places = on_map((500_000, 5_316_000), (500_010, 5_317_000), (500_020, 5_317_000), zones=["32T", "32U", "32U"])
    plane = Plane([places])
    assert plane.zone == "32U"
    np.testing.assert_array_equal(plane.metres(places), places.utm)


def test_a_plane_of_metres_on_a_map_has_no_degrees():
    plane = Plane([on_map((1, 2), (3, 4))])
    assert plane.zone == ""
    np.testing.assert_array_equal(plane.metres(on_map((1, 2))), [[1, 2]])
    assert np.isnan(plane.degrees(np.array([[1.0, 2.0]]))).all()


@given(st.floats(-80, 84), st.floats(-180, 180))
def test_degrees_survive_utm_anywhere(lat, lon):
    east, north, (zone,) = to_utm(np.array([lat]), np.array([lon]))
    assert is_zone(zone)
    back = to_degrees(east, north, [zone])
    assert metres_apart(*back, np.array([lat]), np.array([lon])) == pytest.approx(0, abs=ROUNDING_M)


def test_positions_of_a_table_without_zones():
    rows = pd.DataFrame({"utm_east": [1.0], "utm_north": [2.0], "utm_zone": [None]})
    assert Positions.of(rows).grids.tolist() == [""]


def test_what_cannot_be_put_into_a_grid_is_nan():
    rows = pd.DataFrame(
        {"utm_east": [np.nan, 5.0, 400_000], "utm_north": [np.nan, 6.0, 5e6], "utm_zone": ["", "", "32T"]}
    )
    mixed = Positions.of(rows)
    np.testing.assert_array_equal(mixed.in_grid_of("32T"), [[np.nan] * 2, [np.nan] * 2, [400_000, 5e6]])
    np.testing.assert_array_equal(mixed.in_grid_of(""), [[np.nan] * 2, [5, 6], [np.nan] * 2])
