"""Places from positions, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vpr.config.errors import UserError
from vpr.data.coordinates import metres_apart, to_utm
from vpr.sources.cells import CellParams, viewpoints, with_places

COSPLACE = CellParams(by="cells", side_m=10.0, sector_deg=30.0, groups=5, sector_groups=2, focal_m=10.0)
EIGENPLACES = COSPLACE.model_copy(update={"by": "viewpoints", "sector_deg": 60.0})


def table(images: list[tuple[float, float, float]]) -> pd.DataFrame:
    east, north, heading = zip(*images, strict=True)
    return pd.DataFrame({"utm_east": east, "utm_north": north, "heading": heading, "utm_zone": "32T"}).astype(
        {"utm_east": float, "utm_north": float, "heading": float}
    )


def test_a_cell_is_a_square_and_a_sector():
    rows = with_places(table([(3, 4, 10), (9.9, 0, 29), (10, 4, 10), (3, 4, 31), (3, 4, 370)]), COSPLACE, "here")
    assert rows["place_id"].tolist() == ["32T/0_0_0", "32T/0_0_0", "32T/1_0_0", "32T/0_0_1", "32T/0_0_0"]
    assert rows["group"].tolist() == ["0_0_0", "0_0_0", "1_0_0", "0_0_1", "0_0_0"]


def test_without_headings_a_cell_is_a_square_alone():
    rows = with_places(table([(3, 4, math.nan), (7, 8, math.nan), (13, 4, math.nan)]), COSPLACE, "here")
    assert rows["place_id"].nunique() == 2


positions = st.tuples(st.floats(-200, 200), st.floats(-200, 200), st.floats(0, 359.9))


@given(st.lists(positions, min_size=2, max_size=40))
def test_images_of_a_place_are_near_and_places_of_a_group_never_touch(images):
    rows = with_places(table(images), COSPLACE, "here")
    for k, one in rows.iterrows():
        for _, other in rows.iloc[k + 1 :].iterrows():
            apart = np.abs([one.utm_east - other.utm_east, one.utm_north - other.utm_north])
            turned = abs((one.heading - other.heading + 180) % 360 - 180)
            if one.place_id == other.place_id:
                assert (apart < 10).all()
                assert turned < 30
            elif one.group == other.group:
                # Four squares, or one sector, lie between them.
                assert (apart > 40 - 1e-9).any() or turned > 30 - 1e-9


@given(
    st.lists(positions, min_size=2, max_size=30),
    st.sampled_from([(52.52, 12.0), (0.0, 9.0), (10.0, 180.0), (48.0, 9.0)]),
)
def test_a_border_between_zones_goes_through_no_cell(images, corner):
    east, north, heading = np.array(images).T
    lat = corner[0] + north / 111_195
    lon = (corner[1] + east / 111_195 / np.cos(np.radians(corner[0])) + 180) % 360 - 180
    utm_east, utm_north, zone = to_utm(lat, lon)
    columns = {"utm_east": utm_east, "utm_north": utm_north, "utm_zone": zone, "heading": heading}
    rows = with_places(pd.DataFrame(columns), COSPLACE, "here")
    metres = metres_apart(lat[:, None], lon[:, None], lat, lon)
    for k, one in rows.iterrows():
        for j, other in rows.iloc[k + 1 :].iterrows():
            turned = abs((one.heading - other.heading + 180) % 360 - 180)
            if one.place_id == other.place_id:
                assert metres[k, j] < 10 * np.sqrt(2) * 1.02
            elif one.group == other.group:
                assert metres[k, j] > 40 * 0.98 or turned > 30 - 1e-9


def test_sectors_that_would_touch_round_the_compass_are_refused():
    with pytest.raises(ValidationError, match="has to divide 360"):
        CellParams(by="cells", side_m=10.0, sector_deg=30.0, groups=5, sector_groups=5, focal_m=10.0)


def test_a_viewpoint_is_what_looks_at_the_point_beside_the_street_or_along_it():
    # A street to the north: its lateral point is 10 m east of the middle, its frontal one 10 m north.
    street = np.array([[5.0, 1.0], [5.0, 5.0], [5.0, 9.0]])
    towards_lateral = [math.degrees(math.atan2(10, 5 - north)) for north in (1, 5, 9)]
    assert viewpoints(street, np.array(towards_lateral), 10.0, 20.0).tolist() == ["lateral"] * 3
    assert viewpoints(street, np.zeros(3), 10.0, 20.0).tolist() == ["frontal"] * 3
    assert viewpoints(street, np.array([180.0, 270.0, 225.0]), 10.0, 20.0).tolist() == [""] * 3
    rows = with_places(table([(5, 1, 90), (5, 5, 90), (5, 9, 0), (5, 5, 270)]), EIGENPLACES, "here")
    assert rows["place_id"].str.rpartition("_")[2].tolist() == ["lateral", "lateral", "frontal"]
    assert rows["group"].tolist() == ["0_0_0", "0_0_0", "0_0_1"]


def test_images_without_a_position_are_left_out_and_nothing_but_them_is_refused():
    assert len(with_places(table([(1, 1, 0), (math.nan, 1, 0)]), COSPLACE, "here")) == 1
    with pytest.raises(UserError, match="here makes places from positions, and no training image has utm_east"):
        with_places(table([(math.nan, 1, 0)]), COSPLACE, "here")
    with pytest.raises(UserError, match="and heading"):
        with_places(table([(1, 1, math.nan)]), EIGENPLACES, "here")
