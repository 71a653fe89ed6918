"""Numbers -> one HTML file that loads nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

_HERE = Path(__file__).parent


def render(
    title: str,
    told: str,
    configuration: list[tuple[str, str]],
    runs: list[str],
    sets: list[dict[str, Any]],
    thumbnails: list[str],
    training: dict[str, list[list[float]]],
) -> str:
    """The page.

    Args:
        told: a line under the title.
        configuration: keys and values.
        runs: the run's name; two of them where a second is set beside the first.
        sets: see ``vpr.report.data``.
        thumbnails: JPEG in base64; the sets name them by number.
        training: ``loss``, ``validation`` and ``informative``: rows of numbers.
    """
    data = json.dumps({"runs": runs, "sets": sets, "thumbs": thumbnails, "training": training}, allow_nan=False)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_read("page.html"))
    return template.render(
        title=title,
        told=told,
        configuration=configuration,
        css=Markup(_read("page.css")),
        js=Markup(_read("page.js")),
        data=Markup(data.replace("<", "\\u003c")),
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
