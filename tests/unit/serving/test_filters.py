"""Conditions on the photos that may answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vpr.config.errors import UserError
from vpr.serving.filters import Where, parse_where


def test_photos_within_a_distance_and_since_a_time():
    lat = np.array([45.0, 45.0009, 45.0, np.nan])  # 0, 100.1 and 78.6 m from the first, and not known
    lon = np.array([7.0, 7.0, 7.001, np.nan])
    images = pd.DataFrame({"timestamp": ["201812", "201901", "", "2020"]})
    assert Where(near=(45.0, 7.0), within_m=90).mask(images, lat, lon).tolist() == [True, False, True, False]
    assert Where(near=(45.0, 7.0), within_m=101).mask(images, lat, lon).tolist() == [True, True, True, False]
    for since in ("2019", "2019-01", "20190101"):
        assert Where(since=since).mask(images, lat, lon).tolist() == [False, True, False, True]
    assert Where().mask(images, lat, lon).all()
    assert Where().as_sql() is None
    with pytest.raises(UserError, match="--where needs an index in LanceDB"):
        Where(sql="lat > 45").mask(images, lat, lon)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("45,7", None, None, None), "--near and --within go together"),
        ((None, 10.0, None, None), "--near and --within go together"),
        (("45;7", 10.0, None, None), "expected LAT,LON in degrees"),
        (("9.19,145.46", -1.0, None, None), "--within is -1.0; expected metres above 0"),
        (("145.46,9.19", 10.0, None, None), "not a position on earth; are LAT and LON swapped"),
        ((None, None, "2019'; --", None), "--since: .* is not a date"),
    ],
)
def test_what_is_no_condition_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        parse_where(*options)
