"""Answers of ``vpr localize`` in the formats that maps and tables read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import pandas as pd

from vpr.data.csv_files import to_csv

COLUMNS = (
    "photo", "lat", "lon", "utm_east", "utm_north", "utm_zone", "place_id", "confidence", "confidence_means", "known",
    "first_prediction", "similarity", "error",
)  # fmt: skip
Answers = Sequence[dict[str, Any]]


def as_json(answers: Answers) -> str:
    """The same as the served model answers."""
    return json.dumps(answers, indent=2)


def as_geojson(answers: Answers) -> str:
    """A point for each photo whose place is known in degrees (RFC 7946: longitude first)."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [answer["lon"], answer["lat"]]},
            "properties": {key: value for key, value in _flat(answer).items() if key not in ("lat", "lon")},
        }
        for answer in _located(answers)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=2)


def as_csv(answers: Answers) -> str:
    """A row for each photo, those without an answer included."""
    return to_csv(pd.DataFrame([_flat(answer) for answer in answers], columns=list(COLUMNS))).rstrip("\n")


def as_gpx(answers: Answers) -> str:
    """A waypoint for each photo whose place is known in degrees (GPX 1.1)."""
    root = ElementTree.Element("gpx", version="1.1", creator="vpr", xmlns="http://www.topografix.com/GPX/1/1")
    for answer in _located(answers):
        point = ElementTree.SubElement(root, "wpt", lat=f"{answer['lat']:.7f}", lon=f"{answer['lon']:.7f}")
        ElementTree.SubElement(point, "name").text = str(answer["photo"])
        if answer["confidence"] is not None:
            said = f"{answer['confidence']:.0%} likely to be {answer['confidence_means']}"
            ElementTree.SubElement(point, "desc").text = said
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


FORMATS: dict[str, Callable[[Answers], str]] = {
    "json": as_json, "geojson": as_geojson, "csv": as_csv, "gpx": as_gpx,
}  # fmt: skip


def _located(answers: Answers) -> list[dict[str, Any]]:
    return [answer for answer in answers if answer.get("known") and answer.get("lat") is not None]


def _flat(answer: dict[str, Any]) -> dict[str, Any]:
    first = (answer.get("predictions") or [{}])[0]
    known = {key: answer[key] for key in COLUMNS if answer.get(key) is not None}
    return known | {
        name: first[key] for name, key in (("first_prediction", "image"), ("similarity", "similarity")) if key in first
    }
