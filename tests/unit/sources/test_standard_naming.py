"""The standard file naming, both ways."""

from __future__ import annotations

import pandas as pd
import pytest
import utm
from hypothesis import given
from hypothesis import strategies as st

from vpr.sources.standard_naming import format_name, parse_name


@given(
    st.floats(200_000, 800_000),
    st.floats(100_000, 7_000_000),
    st.integers(1, 60),
    st.floats(0, 359.4),
    st.from_regex(r"[0-9]{1,5}_[A-Z][a-z]+", fullmatch=True),
)
def test_a_name_says_what_it_was_made_from(east, north, number, heading, note):
    band = utm.latitude_to_zone_letter(utm.to_latlon(east, north, number, northern=True)[0])
    name = parse_name("some/folder/" + format_name(east, north, (number, band), "pano_1", heading, "201907", note))
    assert name.utm_east == pytest.approx(east, abs=0.006)
    assert name.utm_north == pytest.approx(north, abs=0.006)
    assert name.utm_zone == f"{number}{band}"
    assert name.heading == round(heading) % 360
    assert (name.pano, name.timestamp, name.note) == ("pano_1", "201907", note)
    again = utm.from_latlon(name.lat, name.lon, force_zone_number=number)
    assert again[:2] == pytest.approx((east, north), abs=2.0)


def test_a_name_of_gsv_cities_xs_is_read():
    name = parse_name("@0591711.68@6647757.97@32@V@059.95697@0010.64221@9maGM2@@421@@@@201910@4768_OSL@.jpg")
    assert (name.utm_east, name.utm_north, name.utm_zone) == (591711.68, 6647757.97, "32V")
    assert (name.lat, name.lon, name.heading) == (59.95697, 10.64221, 61.0)
    assert name.note == "4768_OSL"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photo.jpg", "0 fields between '@' instead of 14"),
        ("@east@2@32@T@@@@@@@@@@.jpg", "instead of 14"),
        ("@east@2@32@T@@@@@@@@@@@.jpg", "field utm_east is 'east'; expected a number"),
    ],
)
def test_another_name_is_refused_with_what_is_wrong(name, message):
    with pytest.raises(ValueError, match=message):
        parse_name(name)


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("@500000.5@5000000@.jpg", ""),
        ("@500000.5@5000000@any thing@.jpg", ""),
        ("@500000.5@5000000@32@T@more@.jpg", "32T"),
    ],
)
def test_the_short_form_of_the_evaluation_tools_is_read(name, zone):
    found = parse_name(name)
    assert (found.utm_east, found.utm_north, found.utm_zone) == (500000.5, 5_000_000, zone)


def test_empty_fields_are_unknown():
    name = parse_name("@@@@@@@@@@@@@@@.jpg")
    assert (name.utm_east, name.heading, name.utm_zone, name.timestamp) == (None, None, "", "")


def test_every_real_gsv_xs_name_is_read(shared):
    for path in sorted((shared / "gsv_xs_dataframes").glob("*.csv")):
        table = pd.read_csv(path)
        names = [parse_name(name) for name in table["filename"]]
        assert [n.utm_east for n in names] == pytest.approx(table["UTMx"].tolist(), abs=0.006)
        assert [n.note.partition("_")[0] for n in names] == table["place_id"].astype(str).tolist()
