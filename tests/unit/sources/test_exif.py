"""Position and time of a photo: what is clear is read, and nothing is guessed."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from vpr.sources.exif import exif_position, exif_time

GPS = ExifTags.GPS


def photo(gps: dict | None = None, taken: dict | None = None) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    exif.get_ifd(ExifTags.IFD.Exif).update(taken or {})
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG", exif=exif)
    return out.getvalue()


def at(lat, lat_ref, lon, lon_ref) -> bytes:
    return photo(
        {GPS.GPSLatitude: lat, GPS.GPSLatitudeRef: lat_ref, GPS.GPSLongitude: lon, GPS.GPSLongitudeRef: lon_ref}
    )


def dms(angle: float) -> tuple[float, float, float]:
    return int(angle), int(angle * 60 % 60), round(angle * 3600 % 60, 4)


@given(st.floats(-79, 83), st.floats(-179, 179))
def test_degrees_minutes_and_seconds_of_all_hemispheres(lat, lon):
    content = at(dms(abs(lat)), "NS"[lat < 0], dms(abs(lon)), "EW"[lon < 0])
    found = exif_position(content)
    if max(abs(lat), abs(lon)) > 2e-5:
        assert found == pytest.approx((lat, lon), abs=1e-5)


@pytest.mark.parametrize("south", ["S", "s", " S ", "S\0\0", "South", "SOUTH\0", b"S", b"S\0", b"South"])
def test_south_is_south_in_every_spelling(south):
    assert exif_position(at(dms(36.804), south, dms(174.7), "E")) == pytest.approx((-36.804, 174.7), abs=1e-5)


def test_negative_degrees_that_agree_with_their_reference_are_read_once():
    content = at((36.0, 48.0, 14.4), "S", (174.0, 42.0, 0.0), "W")
    pillow_writes_no_negative = exif_position(content)
    assert pillow_writes_no_negative == pytest.approx((-36.804, -174.7), abs=1e-5)
    negative = signed(content)
    assert exif_position(negative) == pytest.approx((-36.804, -174.7), abs=1e-5)
    assert exif_position(signed(at((36.0, 48.0, 14.4), "N", (174.0, 42.0, 0.0), "W"))) is None


def signed(content: bytes) -> bytes:
    """Return the photo with -36 degrees of latitude, as a signed rational."""
    order = "big" if b"Exif\0\0MM" in content else "little"
    plain, negative = (n.to_bytes(4, order, signed=True) + (1).to_bytes(4, order) for n in (36, -36))
    unsigned, signed_ = ((2).to_bytes(2, order) + kind.to_bytes(2, order) + (3).to_bytes(4, order) for kind in (5, 10))
    assert content.count(plain) == content.count(unsigned) == 1
    return content.replace(unsigned, signed_).replace(plain, negative)


@pytest.mark.parametrize(
    "gps",
    [
        {},
        {GPS.GPSLatitude: dms(36.8), GPS.GPSLongitude: dms(174.7)},
        {GPS.GPSLatitude: dms(36.8), GPS.GPSLatitudeRef: "S", GPS.GPSLongitude: dms(174.7), GPS.GPSLongitudeRef: ""},
        {GPS.GPSLatitude: dms(36.8), GPS.GPSLatitudeRef: "X", GPS.GPSLongitude: dms(174.7), GPS.GPSLongitudeRef: "E"},
        {GPS.GPSLatitude: dms(36.8), GPS.GPSLatitudeRef: "E", GPS.GPSLongitude: dms(174.7), GPS.GPSLongitudeRef: "S"},
        {GPS.GPSLatitude: dms(95.0), GPS.GPSLatitudeRef: "N", GPS.GPSLongitude: dms(7.0), GPS.GPSLongitudeRef: "E"},
        {GPS.GPSLatitude: (45, 70, 0), GPS.GPSLatitudeRef: "N", GPS.GPSLongitude: dms(7.0), GPS.GPSLongitudeRef: "E"},
        {GPS.GPSLatitude: dms(0.0), GPS.GPSLatitudeRef: "N", GPS.GPSLongitude: dms(0.0), GPS.GPSLongitudeRef: "E"},
        {GPS.GPSLatitude: dms(36.8), GPS.GPSLatitudeRef: "S"},
    ],
    ids=["none", "no references", "empty", "odd", "swapped", "beyond the pole", "70 minutes", "removed", "half"],
)
def test_a_position_that_is_not_clear_is_none(gps):
    assert exif_position(photo(gps)) is None


def test_what_is_no_photo_has_no_position_and_no_time():
    assert exif_position(b"no photo") is None
    assert exif_time(b"no photo") == ""


@pytest.mark.parametrize(
    ("offset", "plain"), [(None, "20210715143005"), ("+02:00", "20210715123005"), ("-09:30", "20210716000005")]
)
def test_the_time_is_in_utc_if_its_offset_is_known(offset, plain):
    base = ExifTags.Base
    taken = {base.DateTimeOriginal: "2021:07:15 14:30:05"} | ({base.OffsetTimeOriginal: offset} if offset else {})
    assert exif_time(photo(taken=taken)) == plain
    assert exif_time(photo(taken={base.DateTimeOriginal: "0000:00:00 00:00:00"})) == ""
