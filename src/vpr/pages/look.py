"""The style sheet of all pages, and the format of images and months."""

from __future__ import annotations

import base64
import io
from datetime import datetime
from pathlib import Path

from markupsafe import Markup
from PIL import Image


def look() -> Markup:
    """Return the shared style sheet; each page adds its own."""
    return Markup((Path(__file__).parent / "look.css").read_text(encoding="utf-8"))


def site_look() -> str:
    """Return the style sheet of the documentation."""
    return str(look()) + (Path(__file__).parent / "site.css").read_text(encoding="utf-8")


def jpeg_url(image: Image.Image, quality: int = 80) -> str:
    """Return an image as a data URL."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def month_in_words(timestamp: str) -> str:
    """Format ``202108`` as ``August 2021``; a drive's clock as nothing; other texts are returned unchanged."""
    if timestamp.startswith("+"):
        return ""
    try:
        return datetime.strptime(timestamp[:6], "%Y%m").strftime("%B %Y")
    except ValueError:
        return timestamp
