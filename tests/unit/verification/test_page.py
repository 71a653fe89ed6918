"""The page of the dataset."""

from __future__ import annotations

from vpr.data.manifest import Manifest
from vpr.verification.checks import verify
from vpr.verification.page import dataset_page


def test_a_dollar_in_a_city_s_name_is_a_dollar(city):
    rows = city.rows.copy()
    train = rows["role"] == "train"
    rows.loc[train, "place_id"] = "A$_{$\\frac/" + rows.loc[train, "place_id"].str.rpartition("/")[2]
    rows.loc[train, "city"] = "A$_{$\\frac"
    checked = verify(Manifest("odd", city.root, rows), 25.0, 1)
    page = dataset_page(checked.manifest, checked.problems, checked.statistics, 25.0)
    assert "A$_{$\\frac" in page
