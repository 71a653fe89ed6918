"""Write answers in the formats that maps and tables read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import pandas as pd

from vpr.config.errors import printable
from vpr.data.csv_files import to_csv
from vpr.serving.answers import Answer

COLUMNS = (
    "photo", "lat", "lon", "utm_east", "utm_north", "utm_zone", "place_id", "confidence", "confidence_means", "known",
    "first_prediction", "similarity", "error",
)  # fmt: skip
Answers = Sequence[Answer]


def as_text(answers: Answers) -> str:
    """Return the answers as text for a terminal."""
    return "\n".join(answer.in_words() for answer in answers)


def as_json(answers: Answers) -> str:
    """Return the answers as the served model gives them."""
    return json.dumps([answer.as_dict() for answer in answers], indent=2)


def as_geojson(answers: Answers) -> str:
    """Return a point for each photo whose position in degrees is known (RFC 7946: longitude first)."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [answer.lon, answer.lat]},
            "properties": {key: value for key, value in _flat(answer).items() if key not in ("lat", "lon")},
        }
        for answer in _located(answers)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=2)


def as_csv(answers: Answers) -> str:
    """Return a row for each photo, including those without an answer."""
    return to_csv(pd.DataFrame([_flat(answer) for answer in answers], columns=list(COLUMNS))).rstrip("\n")


def as_gpx(answers: Answers) -> str:
    """Return a waypoint for each photo whose position in degrees is known (GPX 1.1)."""
    root = ElementTree.Element("gpx", version="1.1", creator="vpr", xmlns="http://www.topografix.com/GPX/1/1")
    for answer in _located(answers):
        point = ElementTree.SubElement(root, "wpt", lat=f"{answer.lat:.7f}", lon=f"{answer.lon:.7f}")
        ElementTree.SubElement(point, "name").text = printable(answer.photo)
        if answer.confidence is not None:
            ElementTree.SubElement(point, "desc").text = printable(answer.confidence_in_words())
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


FORMATS: dict[str, Callable[[Answers], str]] = {
    "text": as_text, "json": as_json, "geojson": as_geojson, "csv": as_csv, "gpx": as_gpx,
}  # fmt: skip


def _located(answers: Answers) -> list[Answer]:
    return [answer for answer in answers if answer.known and answer.lat is not None]


def _flat(answer: Answer) -> dict[str, Any]:
    content = answer.as_dict()
    known = {key: content[key] for key in COLUMNS if content.get(key) is not None}
    if answer.predictions:
        known |= {"first_prediction": answer.predictions[0].image, "similarity": answer.predictions[0].similarity}
    return known
