"""Convert columns of coordinates between degrees and UTM."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import utm
from numpy.typing import NDArray

COMMON_ZONE_DEG = 4.5  # a zone reaches 3 degrees to either side; up to here distances stay exact to 0.1 %
_BANDS = np.array([*"CDEFGHJKLMNPQRSTUVWXX"])

Numbers = NDArray[np.float64]


def is_zone(name: str) -> bool:
    """Return whether a text is a UTM zone, a number and a latitude band such as ``32T``."""
    return re.fullmatch(r"(0?[1-9]|[1-5][0-9]|60)[C-HJ-NP-X]", name) is not None


def on_earth(lat: Numbers, lon: Numbers) -> NDArray[np.bool_]:
    """Return a mask of the positions that UTM covers: those between 80 degrees south and 84 degrees north."""
    return np.isfinite(lat) & np.isfinite(lon) & (np.abs(lon) <= 180) & (lat >= -80) & (lat <= 84)


def to_utm(lat: Numbers, lon: Numbers) -> tuple[Numbers, Numbers, list[str]]:
    """Convert degrees to UTM east and north in metres, rounded to centimetres, and zones such as ``32T``.

    Positions near the most frequent zone are all put into that zone, so that photos on both sides of a border between
    zones remain comparable.

    Args:
        lat, lon: Positions in degrees, all of them ``on_earth``.
    """
    east, north = np.empty(len(lat)), np.empty(len(lat))
    own = np.array([utm.latlon_to_zone_number(a, o) for a, o in zip(lat, lon, strict=True)], dtype=np.int64)
    if len(own) == 0:
        return east, north, []
    common = int(np.bincount(own).argmax())
    near = np.abs(lon - utm.zone_number_to_central_longitude(common)) < COMMON_ZONE_DEG
    zone = np.where(near, common, own)
    for number in np.unique(zone):
        for south in (False, True):
            here = (zone == number) & ((lat < 0) == south)
            if here.any():
                east[here], north[here] = utm.from_latlon(lat[here], lon[here], force_zone_number=int(number))[:2]
    bands = _BANDS[((lat + 80) // 8).astype(int)]
    return east.round(2), north.round(2), [f"{n}{band}" for n, band in zip(zone, bands, strict=True)]


def to_degrees(east: Numbers, north: Numbers, zones: Sequence[str]) -> tuple[Numbers, Numbers]:
    """Convert UTM to latitude and longitude; NaN where a zone or a coordinate is missing or invalid."""
    lat, lon = np.full(len(east), np.nan), np.full(len(east), np.nan)
    names = np.array(zones, dtype=str)
    for name in np.unique(names):
        if not is_zone(name):
            continue
        number, band = name[:-1], name[-1:]
        here = np.flatnonzero((names == name) & np.isfinite(east) & np.isfinite(north))
        lat[here], lon[here] = utm.to_latlon(east[here], north[here], int(number), northern=band >= "N", strict=False)
    return lat, lon


def metres_apart(lat: Numbers, lon: Numbers, other_lat: Numbers, other_lon: Numbers) -> Numbers:
    """Return the distance between nearby positions on a sphere of 6,371 km radius, also across the date line."""
    north = np.radians(lat - other_lat)
    east = np.radians((lon - other_lon + 180) % 360 - 180) * np.cos(np.radians(lat))
    return 6_371_000.0 * np.hypot(north, east)
