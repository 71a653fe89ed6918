"""Read where and when a photo was taken from its EXIF tags. What is not clear is left out, never guessed."""

from __future__ import annotations

import math
import re
from typing import Any

from PIL import ExifTags

from vpr.data.images import opened
from vpr.data.timestamps import plain_timestamp

_GPS = ExifTags.GPS
_REMOVED_DEG = 1e-5
_SIDES = {
    "lat": {"N": 1, "NORTH": 1, "S": -1, "SOUTH": -1},
    "lon": {"E": 1, "EAST": 1, "W": -1, "WEST": -1},
}


def exif_position(content: bytes) -> tuple[float, float] | None:
    """Return latitude and longitude in degrees; ``None`` if they are missing, invalid or ambiguous.

    The references have to say north or south, and east or west. The position (0, 0), which phones write when a position
    was removed, is none.
    """
    try:
        with opened(content) as image:
            gps = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        lat = _angle(gps[_GPS.GPSLatitude], gps[_GPS.GPSLatitudeRef], _SIDES["lat"], 90)
        lon = _angle(gps[_GPS.GPSLongitude], gps[_GPS.GPSLongitudeRef], _SIDES["lon"], 180)
    except Exception:  # tags are invalid in many ways
        return None
    if lat is None or lon is None or max(abs(lat), abs(lon)) < _REMOVED_DEG:
        return None
    return lat, lon


def exif_time(content: bytes) -> str:
    """Return when a photo was taken as a plain timestamp, in UTC if its offset is known; ``""`` if it is unknown."""
    try:
        with opened(content) as image:
            tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
        date, time = str(tags[ExifTags.Base.DateTimeOriginal]).replace("\0", "").split()
        offset = str(tags.get(ExifTags.Base.OffsetTimeOriginal, "")).replace("\0", "").strip()
        known = offset if re.fullmatch(r"Z|[+-]\d\d:?\d\d", offset) else ""  # blanks stand for an unknown one
        return plain_timestamp(f"{date.replace(':', '-')}T{time}{known}")
    except Exception:  # tags are invalid in many ways
        return ""


def _angle(parts: Any, reference: Any, sides: dict[str, int], most: float) -> float | None:
    """Return an angle in degrees; ``None`` if it is invalid or its sign is not clear."""
    values = [float(part) for part in parts]
    if len(values) != 3 or not all(math.isfinite(value) for value in values):
        return None
    text = reference.decode("ascii") if isinstance(reference, bytes) else str(reference)
    sign = sides.get(text.replace("\0", " ").strip().upper())
    negative = any(value < 0 for value in values)
    degrees, minutes, seconds = map(abs, values)
    size = degrees + minutes / 60 + seconds / 3600
    if sign is None or (negative and sign > 0) or minutes > 60 or seconds > 60 or size > most:
        return None
    return sign * size
