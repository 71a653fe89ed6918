"""Checks of positions."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vpr.data.coordinates import metres_apart, to_utm
from vpr.data.manifest import TRAIN, make_manifest
from vpr.verification.checks import verify
from vpr.verification.read_files import read_all_files


def problems_of(folder, rows: pd.DataFrame) -> list[str]:
    for k in range(len(rows)):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(folder / f"{k}.png")
    rows = rows.assign(image=[f"{k}.png" for k in range(len(rows))], role=TRAIN, set="", place_id="fiji")
    return verify(make_manifest("own", str(folder), rows), 25.0, 1).problems["problem"].tolist()


def around(lat: float, lons: list[float]) -> pd.DataFrame:
    parts = [to_utm(pd.Series([lat]).to_numpy(), pd.Series([lon]).to_numpy()) for lon in lons]
    return pd.DataFrame([{"utm_east": e[0], "utm_north": n[0], "utm_zone": z[0]} for e, n, z in parts])


def test_a_place_on_both_sides_of_the_date_line_is_as_wide_as_it_is(tmp_path):
    # A ten-thousandth of a degree of longitude is 10.6 m at 17 degrees south.
    assert problems_of(tmp_path, around(-17.0, [179.9999, -179.9999])) == []
    (problem,) = problems_of(tmp_path, around(-17.0, [179.999, -179.999]))
    assert problem == "images of one place far apart: fiji spans 213 m"


def test_distances_cross_the_date_line():
    east, west = pd.Series([179.9999]).to_numpy(), pd.Series([-179.9999]).to_numpy()
    equator = pd.Series([0.0]).to_numpy()
    assert metres_apart(equator, east, equator, west) == pytest.approx(6_371_000 * 0.0002 * 3.14159265 / 180)


def test_a_northing_outside_the_band_of_its_zone_is_an_error(tmp_path):
    rows = around(52.5, [13.0])
    assert problems_of(tmp_path, rows.assign(utm_zone="33T")) == []  # one band off, as where a set names one for all
    (problem,) = problems_of(tmp_path, rows.assign(utm_zone="33K"))
    assert "utm_north is not in the band of '33K'" in problem


def test_the_southern_hemisphere_may_be_written_as_s(tmp_path):
    rows = around(-23.55, [-46.63]).assign(utm_zone="23S")
    manifest = make_manifest("own", "", rows.assign(image="a.png", role=TRAIN, set="", place_id="a"))
    assert manifest.rows["utm_zone"].tolist() == ["23K"]
    assert problems_of(tmp_path, rows) == []


@pytest.mark.parametrize("zone", ["99Z", "32", "<script>", "0T", "61T", "32I"])
def test_a_zone_that_is_none_is_an_error(tmp_path, zone):
    rows = around(45.0, [9.0]).assign(utm_zone=zone)
    assert problems_of(tmp_path, rows) == [f"utm_zone is not a zone: '{zone}'; expected a zone such as 32T"]


def broken_scans() -> dict[str, bytes]:
    """JPEGs that decoders accept, with grey or wrong pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    out, restarts = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    Image.fromarray(pixels).save(restarts, "JPEG", quality=90, restart_marker_blocks=4)
    whole, marked = out.getvalue(), restarts.getvalue()
    half, marker = len(whole) // 2, marked.index(b"\xff\xd3")
    return {
        "early end.jpg": whole[:half] + b"\xff\xd9" + whole[half:],
        "cut and closed.jpg": whole[:half] + b"\xff\xd9",
        "zeroed.jpg": whole[:half] + bytes(5000) + whole[half + 5000 :],
        "no restart.jpg": marked[:marker] + marked[marker + 2 :],
    }


@pytest.mark.parametrize("name", broken_scans())
def test_a_jpeg_with_a_broken_scan_is_damaged(tmp_path, name, data_root):
    (tmp_path / name).write_bytes(broken_scans()[name])
    (problem,) = read_all_files(tmp_path, [name], 1, "local")["problem"]
    assert problem.startswith("a damaged JPEG: ")


@pytest.mark.parametrize("extra", [b"", b"trailing bytes" * 100])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_sound_jpeg_is_sound(tmp_path, mode, options, extra, data_root):
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 30)).convert(mode).save(out, "JPEG", **options)
    header = out.getvalue().index(b"\xff\xda")
    padded = out.getvalue()[:header] + b"\0\0" + out.getvalue()[header:]
    for number, content in enumerate((out.getvalue() + extra, padded)):
        (tmp_path / f"{number}.jpg").write_bytes(content)
        assert read_all_files(tmp_path, [f"{number}.jpg"], 1, "local")["problem"].tolist() == [""]
