"""Convert columns of coordinates between degrees, UTM and geocentric coordinates."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import utm
from numpy.typing import NDArray

EARTH_RADIUS_M = 6_371_000.0
MAX_BAND_DEG = 8.0  # some datasets name one band for all images, also for those in the next band
_BANDS = np.array([*"CDEFGHJKLMNPQRSTUVWXX"])
_BAND_S_NORTH_M = (3_400_000, 4_600_000)  # northings of band S, 32 to 40 degrees north, and a little more
_BAND_N_LAT, _BAND_N_NORTH_M = 8.0, (0, 1_000_000)  # northings of band N, 0 to 8 degrees north, and a little more
_MOST_M = 1e7  # beyond this, the formulas of UTM give nonsense
_WGS84_A_M, _WGS84_E2 = 6_378_137.0, 0.00669437999014

Numbers = NDArray[np.float64]


def is_zone(name: str) -> bool:
    """Return whether a text is a UTM zone, a number and a latitude band such as ``32T``."""
    return re.fullmatch(r"(0?[1-9]|[1-5][0-9]|60)[C-HJ-NP-X]", name) is not None


def on_earth(lat: Numbers, lon: Numbers) -> NDArray[np.bool_]:
    """Return a mask of the positions that UTM covers: those between 80 degrees south and 84 degrees north."""
    return np.isfinite(lat) & np.isfinite(lon) & (np.abs(lon) <= 180) & (lat >= -80) & (lat <= 84)


def to_utm(lat: Numbers, lon: Numbers) -> tuple[Numbers, Numbers, list[str]]:
    """Convert degrees to UTM east and north in metres, rounded to centimetres, and zones such as ``32T``.

    Args:
        lat, lon: Positions in degrees, all of them ``on_earth``.
    """
    number = np.array([utm.latlon_to_zone_number(a, o) for a, o in zip(lat, lon, strict=True)], dtype=np.int64)
    east, north = np.empty(len(lat)), np.empty(len(lat))
    zones = np.array([f"{n}{band}" for n, band in zip(number, _bands(lat), strict=True)], dtype=str)
    for zone in np.unique(zones):
        here = zones == zone
        east[here], north[here] = to_grid(lat[here], lon[here], int(zone[:-1]), bool(zone[-1] >= "N"))
    return east.round(2), north.round(2), zones.tolist()


def to_grid(lat: Numbers, lon: Numbers, zone: int, northern: bool) -> tuple[Numbers, Numbers]:
    """Convert degrees to east and north of a UTM grid, also beyond the borders of its zone and hemisphere."""
    east, north, _, _ = utm.from_latlon(lat, lon, force_zone_number=zone, force_northern=northern)
    return east, north


def to_degrees(east: Numbers, north: Numbers, zones: Sequence[str]) -> tuple[Numbers, Numbers]:
    """Convert UTM to latitude and longitude; NaN where a zone or a coordinate is missing or invalid."""
    lat, lon = np.full(len(east), np.nan), np.full(len(east), np.nan)
    names = np.array(zones, dtype=str)
    for name in np.unique(names):
        if not is_zone(name):
            continue
        number, band = name[:-1], name[-1:]
        here = np.flatnonzero((names == name) & (np.abs(east - 500_000) < _MOST_M) & (np.abs(north) < 2 * _MOST_M))
        lat[here], lon[here] = utm.to_latlon(east[here], north[here], int(number), northern=band >= "N", strict=False)
    return lat, lon


def to_geocentric(lat: Numbers, lon: Numbers) -> Numbers:
    """Convert degrees to metres from the centre of the Earth, ``(number, 3)``, on the ellipsoid WGS 84."""
    phi, lam = np.radians(lat), np.radians(lon)
    radius = _WGS84_A_M / np.sqrt(1 - _WGS84_E2 * np.sin(phi) ** 2)
    across = radius * np.cos(phi)
    return np.stack([across * np.cos(lam), across * np.sin(lam), radius * (1 - _WGS84_E2) * np.sin(phi)], axis=-1)


def plain_zones(zones: Sequence[str], north: Numbers, lat: Numbers | None = None) -> list[str]:
    """Return zones as ``32T``, and with their latitude band if the letter stands for a hemisphere.

    ``S`` and ``N`` are bands, but many tables mean south and north by them. The latitude, if it is known, or else the
    northing tells which is meant: ``23S`` with a northing of 7,394,000 m cannot be in band S, so it is ``23K``.

    Args:
        zones: Zones; what is not a zone is returned as it is.
        north: Northings in metres.
        lat: Latitudes in degrees, NaN where they are unknown; ``None`` for none.
    """
    unique = {name: re.sub(r"^0+(?=[1-9])", "", re.sub(r"\s", "", name).upper()) for name in set(zones)}
    plain = {name: found if is_zone(found) else name for name, found in unique.items()}
    names = np.array([plain[name] for name in zones], dtype=object)
    last = np.array([name[-1:] if is_zone(name) else "" for name in names])
    known = np.full(len(names), np.nan) if lat is None else np.asarray(lat, dtype=float)
    for letter, (least, most) in (("S", _BAND_S_NORTH_M), ("N", _BAND_N_NORTH_M)):
        other_side = known < 0 if letter == "S" else known > _BAND_N_LAT
        odd = np.flatnonzero((last == letter) & (other_side | (np.isnan(known) & ((north < least) | (north > most)))))
        numbers = [name[:-1] for name in names[odd]]
        hemisphere = "M" if letter == "S" else "N"
        found, _ = to_degrees(np.full(len(odd), 500_000.0), north[odd], [number + hemisphere for number in numbers])
        for k in np.flatnonzero((found >= -80) & (found <= 84)):
            names[odd[k]] = numbers[k] + str(_bands(found[k : k + 1])[0])
    return names.tolist()


def plausible(east: Numbers, north: Numbers, zones: Sequence[str]) -> NDArray[np.bool_]:
    """Return a mask of the coordinates that UTM has, and that are at most ``MAX_BAND_DEG`` outside their band."""
    fits = (east >= 100_000) & (east <= 900_000) & (north >= 0) & (north <= 10_000_000)
    fits &= np.array([is_zone(name) for name in zones], dtype=bool)
    at = np.flatnonzero(fits)
    names = [zones[int(k)] for k in at]
    fits[at] = fits_band(names, to_degrees(east[at], north[at], names)[0], MAX_BAND_DEG)
    return fits


def fits_band(zones: Sequence[str], lat: Numbers, margin_deg: float) -> NDArray[np.bool_]:
    """Return a mask of the latitudes that are at most ``margin_deg`` outside the band of their zone."""
    least = np.array([8.0 * "CDEFGHJKLMNPQRSTUVWX".index(name[-1]) - 80 for name in zones], dtype=float)
    most = np.where(least == 72, 84, least + 8)
    return (lat >= least - margin_deg) & (lat <= most + margin_deg)


def _bands(lat: Numbers) -> NDArray[np.str_]:
    return _BANDS[((lat + 80) // 8).astype(int)]


def metres_apart(lat: Numbers, lon: Numbers, other_lat: Numbers, other_lon: Numbers) -> Numbers:
    """Return great-circle distances on a sphere of radius ``EARTH_RADIUS_M``, by the haversine formula."""
    phi, other_phi = np.radians(lat), np.radians(other_lat)
    half = np.sin((phi - other_phi) / 2) ** 2
    half = half + np.cos(phi) * np.cos(other_phi) * np.sin(np.radians(lon - other_lon) / 2) ** 2
    found: Numbers = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(half, 1.0)))
    return found
