"""Read and write the standard VPR file names.

``@utm_east@utm_north@zone@band@lat@lon@pano@tile@heading@pitch@roll@height@timestamp@note@.jpg``,
as written by VPR-datasets-downloader and the *-XS datasets. Fields may be empty. The note of a
GSV-Cities XS image is ``<place>_<City>``. The field's evaluation tools also accept a short form,
``@utm_east@utm_north@anything@.jpg``. It names no zone, unless zone and band follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePosixPath

import utm

from vpr.data.coordinates import is_zone

FIELDS = (
    "utm_east", "utm_north", "zone", "band", "lat", "lon", "pano", "tile", "heading", "pitch", "roll", "height",
    "timestamp", "note",
)  # fmt: skip
_SHORT = 10  # parts between "@"; a longer name is a damaged one of the long form


@dataclass(frozen=True)
class VPRName:
    """Fields of a file name; ``None`` or ``""`` if a field is empty.

    ``utm_zone`` is number and band, such as ``"32T"``; ``heading`` is in degrees, in [0, 360).
    """

    utm_east: float | None
    utm_north: float | None
    utm_zone: str
    lat: float | None
    lon: float | None
    pano: str
    heading: float | None
    timestamp: str
    note: str


def parse_name(name: str) -> VPRName:
    """Read the fields of a file name in the standard naming.

    Raises:
        ValueError: if the number of fields or a number is wrong; the message names the field.
    """
    stem = PurePosixPath(name).name
    parts = stem.split("@")
    if 4 <= len(parts) <= _SHORT and not parts[0] and all(map(_is_number, parts[1:3])):
        zone = next((found for found in (parts[3].upper(), "".join(parts[3:5]).upper()) if is_zone(found)), "")
        return VPRName(float(parts[1]), float(parts[2]), zone, None, None, "", None, "", "")
    if len(parts) != len(FIELDS) + 2 or parts[0]:
        raise ValueError(
            f"{name}: not in the standard VPR naming, {max(0, len(parts) - 2)} fields between '@' "
            f"instead of {len(FIELDS)}"
        )
    value = dict(zip(FIELDS, parts[1:-1], strict=True))

    def number(field: str) -> float | None:
        if not value[field]:
            return None
        try:
            return float(value[field])
        except ValueError:
            raise ValueError(f"{name}: field {field} is {value[field]!r}; expected a number") from None

    heading = number("heading")
    zone = str(int(value["zone"])) if value["zone"].isdigit() else value["zone"]
    return VPRName(
        utm_east=number("utm_east"),
        utm_north=number("utm_north"),
        utm_zone=zone + value["band"] if zone else "",
        lat=number("lat"),
        lon=number("lon"),
        pano=value["pano"],
        heading=None if heading is None else heading % 360,
        timestamp=value["timestamp"],
        note=value["note"],
    )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def format_name(
    utm_east: float, utm_north: float, zone: tuple[int, str], pano: str, heading: float, timestamp: str, note: str = ""
) -> str:
    """Format a file name; latitude and longitude are computed from the UTM coordinates."""
    lat, lon = utm.to_latlon(utm_east, utm_north, *zone)
    return (
        f"@{utm_east:010.2f}@{utm_north:010.2f}@{zone[0]:02d}@{zone[1]}@{lat:09.5f}@{lon:010.5f}@{pano}@"
        f"@{round(heading) % 360:03d}@@@@{timestamp}@{note}@.jpg"
    )
