"""Timestamps of every documented form sort by time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr.data.timestamps import parse_since, plain_timestamp, plain_timestamps

moments = st.datetimes(datetime(1970, 6, 1), datetime(2029, 12, 31)).map(lambda t: t.replace(microsecond=0))
WRITTEN = {
    "iso": lambda t: t.strftime("%Y-%m-%dT%H:%M:%S"),
    "iso with a blank": lambda t: t.strftime("%Y-%m-%d %H:%M:%S"),
    "utc": lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "offset": lambda t: t.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat(),
    "digits": lambda t: t.strftime("%Y%m%d%H%M%S"),
    "digits with T": lambda t: t.strftime("%Y%m%dT%H%M%S"),
    "unix": lambda t: str(int(t.replace(tzinfo=UTC).timestamp())),
    "unix as a number": lambda t: str(t.replace(tzinfo=UTC).timestamp()),
    "milliseconds": lambda t: str(int(t.replace(tzinfo=UTC).timestamp() * 1000)).rjust(13, "0"),
}


@given(st.sampled_from(sorted(WRITTEN)), st.lists(moments.filter(lambda t: t.year > 1973), min_size=1, max_size=8))
def test_every_form_becomes_the_same_digits(form, times):
    if form == "milliseconds":
        times = [t for t in times if t.year > 2001] or [datetime(2021, 7, 15)]
    found = plain_timestamps([WRITTEN[form](t) for t in times])
    assert found == [t.strftime("%Y%m%d%H%M%S") for t in times]
    assert plain_timestamps(found) == found


@given(st.lists(st.floats(0, 1e6).map(lambda value: round(value, 3)), min_size=1, max_size=12))
def test_numbers_of_a_clock_sort_as_numbers(values):
    texts = [str(value) if value >= 1e-4 else f"{value:.3f}" for value in values]
    found = plain_timestamps([*texts, "0.5"])
    by_text = sorted(range(len(found)), key=lambda k: found[k])
    assert [[*values, 0.5][k] for k in by_text] == sorted([*values, 0.5])
    assert plain_timestamps(found) == found


@pytest.mark.parametrize(
    ("column", "plain"),
    [
        (["2021", "202107", "20210715", ""], ["2021", "202107", "20210715", ""]),
        (["202107.0", "201901.0"], ["202107", "201901"]),
        (["2021-07", "2021-07-15"], ["202107", "20210715"]),
        (["2021-07-15T14:30:05.250", "2021:07:15 14:30:05"], ["20210715143005.25", "20210715143005"]),
        (["1990", "2000"], ["1990", "2000"]),
        (["20210715t143000z", "2021-07-15 14:30:00+02"], ["20210715143000", "20210715123000"]),
        (["-0.0", "1e-07", "1.6e+3"], ["+00000000000000000000.000000"] * 2 + ["+00000000000000001600.000000"]),
        (["1990", "0"], ["+00000000000000001990.000000", "+00000000000000000000.000000"]),
        (["", ""], ["", ""]),
    ],
)
def test_a_column_is_read_in_the_form_that_fits_all_of_it(column, plain):
    assert plain_timestamps(column) == plain


@pytest.mark.parametrize(
    "column",
    [
        ["2021-07-15", "20210715"],
        ["2021-07-15T12:00:00", "2021-07-15T12:00:00Z"],
        ["1626352200", "2021-07-15"],
        ["12.5", "2021-07-15"],
        ["0", "1626352200"],
        ["20210228", "20210230"],
        ["20210715", "1626352200"],
        ["1.62635E+09", "1.62636E+09"],
    ],
)
def test_a_column_of_several_forms_is_refused(column):
    with pytest.raises(ValueError, match="timestamps of several forms, such as"):
        plain_timestamps(column)


@pytest.mark.parametrize("text", ["yesterday", "2021-02-30", "2021-13", "-5", "nan", "2021-07-15T25:00"])
def test_what_is_no_timestamp_is_refused(text):
    with pytest.raises(ValueError, match="is not a timestamp; expected a date"):
        plain_timestamps(["2021-07-15", text])
    assert plain_timestamp(text) == ""


@pytest.mark.parametrize(
    ("since", "fits", "older"),
    [
        ("202107", "2021-07-15", "2021-06-30"),
        ("2021-07-15", "20210715", "20210714235959"),
        ("2021-07-15T12:00+02:00", "20210715100000", "20210715095959"),
        ("2019", "2019", "2018-12-31"),
        ("2019", "2019-01", "+00000000000000001990.000000"),
        ("2013-07-01", "201307", "20130630"),
        ("2021-07-15T00:00", "20210715", "20210714235959"),
        ("2021-01", "2021", "202012"),
    ],
)
def test_since_compares_moments_however_they_are_written(since, fits, older):
    from_here = parse_since(since)
    assert plain_timestamps([fits])[0] >= from_here
    assert plain_timestamps([older])[0] < from_here


def test_since_needs_a_date():
    for wrong in ("", "06/2019", "2019-6-30", "x", "12.5"):
        with pytest.raises(ValueError, match="is not a date"):
            parse_since(wrong)
