"""Thumbnails of images for the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from vpr.config.errors import UserError
from vpr.data.images import open_image

THUMB_PX, THUMB_QUALITY = (160, 120), 55
THUMB_BYTES = 12_000_000  # for all sets together, before base64


class Thumbnails:
    """Thumbnails of images, each stored once.

    Args:
        budget: Number of bytes for each set.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.used = budget, 0
        self.encoded: list[str] = []
        self._number: dict[Path, int | None] = {}

    def add(self, path: Path) -> int | None:
        """Return the number of an image's thumbnail; ``None`` if the image cannot be read."""
        if path not in self._number:
            try:
                image = open_image(path)
            except UserError:
                self._number[path] = None
                return None
            image.thumbnail(THUMB_PX)
            data = io.BytesIO()
            image.save(data, "JPEG", quality=THUMB_QUALITY, optimize=True)
            self.used += len(data.getvalue())
            self.encoded.append(base64.b64encode(data.getvalue()).decode("ascii"))
            self._number[path] = len(self.encoded) - 1
        return self._number[path]
