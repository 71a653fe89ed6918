"""Show answers on a page: each photo, the nearest database photos, and a map. The page needs no network.

``vpr localize --page`` writes a page about a folder of photos; ``vpr serve`` serves a page to drop photos on.
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
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vpr.config.errors import UserError
from vpr.data.images import as_spelled
from vpr.data.positions import Plane, Positions
from vpr.pages.look import jpeg_url, look
from vpr.serving.answers import Answer, Prediction
from vpr.serving.index import Database, Index
from vpr.serving.photos import from_file, read_photo

_HERE = Path(__file__).parent
MAX_DOTS = 4000  # database photos on the map; a larger database is thinned evenly
QUERY_PX, PREDICTION_PX = 480, 240  # longer side of a picture


@dataclass(frozen=True)
class AnswersPage:
    """A page about answers.

    Attributes:
        title: Title of the page.
        photos: Folder that the names of database photos start from; ``None`` if the photos are not on this disk.
        dots: Positions of the database in metres from the map's origin, ``(number, 2)``.
        map: The map's plane, and its origin there; ``None`` without a map.
    """

    title: str
    photos: Path | None
    dots: list[list[float]]
    map: tuple[Plane, NDArray[np.float64]] | None

    @classmethod
    def of(cls, title: str, index: Database, photos: Path | None) -> AnswersPage:
        """Make a page with the map of an index. An index in LanceDB is not read completely, so it has no dots."""
        if not isinstance(index, Index):
            return cls(title, photos, [], None)
        positions = Positions.of(index.images)
        plane = Plane([positions])
        metres = plane.metres(positions)
        metres = metres[np.isfinite(metres).all(axis=1)]
        if not len(metres):
            return cls(title, photos, [], None)
        origin = np.floor(metres.min(axis=0))
        step = -(-len(metres) // MAX_DOTS)
        return cls(title, photos, (metres[::step] - origin).round(1).tolist(), (plane, origin))

    def with_pictures(self, answer: Answer, content: bytes) -> dict[str, Any]:
        """Return an answer in plain types, with its texts, pictures and positions on the map.

        Args:
            answer: The answer.
            content: Content of the photo's file.
        """
        predictions = [
            {**each.as_dict(), "at": self.map_position(each), "picture": self._picture(each.image)}
            for each in answer.predictions
        ]
        return {
            **answer.as_dict(),
            "place_in_words": answer.place_in_words(),
            "confidence_in_words": answer.confidence_in_words(),
            "at": self.map_position(answer) if answer.known else None,
            "picture": None if answer.error else thumbnail(read_photo(content, answer.photo), QUERY_PX),
            "predictions": predictions,
        }

    def render(self, answers: Sequence[dict[str, Any]], live: bool) -> str:
        """Return the page as HTML.

        Args:
            answers: Answers as ``with_pictures`` returns them.
            live: Whether the page takes photos and sends them to the server that it comes from.
        """
        data = json.dumps({"dots": self.dots, "answers": list(answers), "live": live}, allow_nan=False)
        template = Environment(autoescape=True).from_string((_HERE / "answers.html").read_text(encoding="utf-8"))
        return template.render(
            title=self.title,
            look=look(),
            live=live,
            script=Markup((_HERE / "answers.js").read_text(encoding="utf-8")),
            data=Markup(data.replace("<", "\\u003c")),  # so that no file name can end the script
        )

    def map_position(self, place: Answer | Prediction) -> list[float] | None:
        """Return metres east and north of the map's origin; ``None`` if they are unknown."""
        if self.map is None or place.utm_east is None or place.utm_north is None:
            return None
        plane, origin = self.map
        at = Positions(np.array([[place.utm_east, place.utm_north]]), np.array([place.utm_zone or ""], dtype=object))
        (point,) = plane.metres(at) - origin
        return point.round(1).tolist() if np.isfinite(point).all() else None

    def path_of(self, name: str) -> Path | None:
        """Return the path of a database photo; ``None`` if it is not on this disk, or the name leaves the folder."""
        if self.photos is None:
            return None
        try:
            path = as_spelled(self.photos / name).resolve()
            return path if path.is_relative_to(self.photos.resolve()) and path.is_file() else None
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, or a loop of links
            return None

    def _picture(self, name: str) -> str | None:
        """Return a thumbnail of a database photo; ``None`` if the photo is not on this disk."""
        path = self.path_of(name)
        if path is None:
            return None
        try:
            return thumbnail(read_photo(from_file(path), name), PREDICTION_PX)
        except UserError:
            return None


def thumbnail(image: Image.Image, side_px: int) -> str:
    """Return a smaller copy of an image as a data URL."""
    return jpeg_url(ImageOps.contain(image, (side_px, side_px)))


def server_page(openapi: dict[str, Any]) -> str:
    """Return a page that describes the server's requests, made from its OpenAPI document."""
    calls = [
        (method.upper(), path, about.get("description", ""), about.get("requestBody"))
        for path, methods in openapi["paths"].items()
        for method, about in methods.items()
    ]
    template = Environment(autoescape=True).from_string(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>{{ title }}: requests</title><style>{{ look }} pre { overflow-x: auto }</style>"
        "<main><h1>Requests of this server</h1><p>The same for programs: <a href=openapi.json>openapi.json</a></p>"
        "{% for method, path, text, body in calls %}<h2>{{ method }} {{ path }}</h2><p>{{ text }}</p>"
        "{% if body %}<pre>{{ body.content['application/json'].schema | tojson(indent=2) }}</pre>{% endif %}"
        "{% endfor %}</main></html>"
    )
    return template.render(title=openapi["info"]["title"], look=look(), calls=calls)
