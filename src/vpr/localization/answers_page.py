"""Answers as a page: each photo, the nearest photos of the database, and a map. It needs no network.

``vpr localize --page`` writes one of a folder of photos; ``vpr demo`` serves one that takes photos.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from PIL import Image, ImageOps

from vpr.config.errors import UserError
from vpr.localization.index import Database, Index
from vpr.localization.photos import from_file, read_photo
from vpr.pages.look import jpeg_url, look

_HERE = Path(__file__).parent
MAX_DOTS = 4000  # of the database on the map; every so many-th photo beyond
QUERY_PX, PREDICTION_PX = 480, 240  # longer side of a picture


@dataclass(frozen=True)
class Shown:
    """What a page shows beside the answers.

    Attributes:
        title: of the page.
        photos: folder that the database's names start from; ``None`` where its photos are not here.
        dots: positions of the database in metres from ``origin``, ``(number, 2)``.
        origin: UTM east and north of the map's origin, and its zone.
    """

    title: str
    photos: Path | None
    dots: list[list[float]]
    origin: tuple[float, float, str]

    @classmethod
    def of(cls, title: str, index: Database, photos: Path | None) -> Shown:
        """With the map of an index; one in LanceDB is not read whole, so it has no dots."""
        if not isinstance(index, Index):
            return cls(title, photos, [], (0.0, 0.0, ""))
        rows = index.images
        zone = next((z for z in rows["utm_zone"] if z), "")
        utm = rows.loc[rows["utm_zone"] == zone, ["utm_east", "utm_north"]].to_numpy(dtype=float)
        utm = utm[np.isfinite(utm).all(axis=1)]
        if not len(utm):
            return cls(title, photos, [], (0.0, 0.0, ""))
        origin = np.floor(utm.min(axis=0))
        step = -(-len(utm) // MAX_DOTS)
        dots = (utm[::step] - origin).round(1).tolist()
        return cls(title, photos, dots, (float(origin[0]), float(origin[1]), zone))

    def answer(self, answer: dict[str, Any], content: bytes) -> dict[str, Any]:
        """An answer with its pictures, and with its places on the map.

        Args:
            content: of the photo.
        """
        found = [
            {**each, "at": self.at(each), "picture": self._picture(each["image"])}
            for each in answer.get("predictions", [])
        ]
        picture = None if "error" in answer else thumbnail(read_photo(content, answer["photo"]), QUERY_PX)
        return {
            **answer,
            "at": self.at(answer) if answer.get("known") else None,
            "picture": picture,
            "predictions": found,
        }

    def render(self, answers: Sequence[dict[str, Any]], live: bool) -> str:
        """The page.

        Args:
            answers: as ``answer`` gives them.
            live: it takes photos, and asks the server that it comes from.
        """
        data = json.dumps({"dots": self.dots, "answers": list(answers), "live": live}, allow_nan=False)
        template = Environment(autoescape=True).from_string((_HERE / "answers.html").read_text(encoding="utf-8"))
        return template.render(
            title=self.title,
            look=look(),
            live=live,
            script=Markup((_HERE / "answers.js").read_text(encoding="utf-8")),
            data=Markup(data.replace("<", "\\u003c")),  # no text of a file name ends the script
        )

    def at(self, place: dict[str, Any]) -> list[float] | None:
        """Metres east and north of the map's origin; ``None`` where that is not known."""
        east, north, zone = self.origin
        if place.get("utm_east") is None or not zone or place.get("utm_zone") != zone:
            return None
        return [round(place["utm_east"] - east, 1), round(place["utm_north"] - north, 1)]

    def path_of(self, name: str) -> Path | None:
        """Where a photo of the database is; ``None`` where it is not on this disk, or the name leaves the folder."""
        if self.photos is None:
            return None
        path = (self.photos / name).resolve()
        return path if path.is_relative_to(self.photos.resolve()) and path.is_file() else None

    def _picture(self, name: str) -> str | None:
        """A photo of the database; ``None`` where it is not on this disk."""
        path = self.path_of(name)
        if path is None:
            return None
        try:
            return thumbnail(read_photo(from_file(path), name), PREDICTION_PX)
        except UserError:
            return None


def thumbnail(image: Image.Image, side_px: int) -> str:
    """A smaller copy, as the address that a page holds it under."""
    return jpeg_url(ImageOps.contain(image, (side_px, side_px)))


def described(openapi: dict[str, Any]) -> str:
    """A page that says what the server takes and gives, from its OpenAPI document."""
    calls = [
        (method.upper(), path, about.get("description", ""), about.get("requestBody"))
        for path, methods in openapi["paths"].items()
        for method, about in methods.items()
    ]
    template = Environment(autoescape=True).from_string(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>{{ title }}: what the server takes</title><style>{{ look }} pre { overflow-x: auto }</style>"
        "<main><h1>What the server takes</h1><p>The same for programs: <a href=openapi.json>openapi.json</a></p>"
        "{% for method, path, text, body in calls %}<h2>{{ method }} {{ path }}</h2><p>{{ text }}</p>"
        "{% if body %}<pre>{{ body.content['application/json'].schema | tojson(indent=2) }}</pre>{% endif %}"
        "{% endfor %}</main></html>"
    )
    return template.render(title=openapi["info"]["title"], look=look(), calls=calls)
