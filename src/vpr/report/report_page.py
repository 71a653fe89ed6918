"""Render the report as one HTML file that works offline."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from vpr.pages.look import look
from vpr.report.sections import Report

_HERE = Path(__file__).parent


def render(report: Report) -> str:
    """Return the page as HTML."""
    data = json.dumps(report.data(), allow_nan=False)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_read("report_page.html"))
    return template.render(
        report=report,
        css=look() + Markup(_read("report_page.css")),
        js=Markup(_read("report_page.js")),
        data=Markup(data.replace("<", "\\u003c")),
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
