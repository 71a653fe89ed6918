"""The page of the dataset."""

from __future__ import annotations

import re

import pytest

from vpr.data.manifest import DATABASE, QUERY, Manifest
from vpr.pages.look import month_in_words
from vpr.verification.checks import verify
from vpr.verification.dataset_page import dataset_page


def test_a_dollar_in_a_city_s_name_is_a_dollar(city):
    rows = city.rows.copy()
    train = rows["role"] == "train"
    rows.loc[train, "place_id"] = "A$_{$\\frac/" + rows.loc[train, "place_id"].str.rpartition("/")[2]
    rows.loc[train, "city"] = "A$_{$\\frac"
    checked = verify(Manifest("odd", city.root, rows), 25.0, 1)
    page = dataset_page(checked.manifest, checked.problems, checked.statistics, 25.0)
    assert "A$_{$\\frac" in page


def test_the_page_shows_maps_times_headings_and_images_with_their_conditions(city):
    checked = verify(city, 25.0, 1)
    page = dataset_page(checked.manifest, checked.problems, checked.statistics, 25.0)
    number = len(city.part("val", DATABASE))
    assert f"database ({number})" in page
    assert "images that look" in page
    assert "images of a year" in page
    assert page.count('<svg class="map"') == len(set(city.train()["city"])) + len(city.set_names())
    first = city.part("val", QUERY).iloc[0]
    assert re.search(rf"{month_in_words(first['timestamp'])} · [^<]*{first['light']}", page)
    zone = first["utm_zone"]
    assert not re.search(rf" · (no|{zone})\b", page), "what is not seen in an image is not said of it"
    assert "http" not in page.replace("http-equiv", ""), "it needs no network"


@pytest.mark.parametrize(
    ("timestamp", "words"), [("202108", "August 2021"), ("20210803", "August 2021"), ("", ""), ("dusk", "dusk")]
)
def test_a_month_is_in_words(timestamp, words):
    assert month_in_words(timestamp) == words
