"""Read photos that strangers send."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from PIL import Image

from vpr.config.errors import UserError
from vpr.data.images import MAX_PIXELS, ImageError, decode, read_file


def from_file(path: Path) -> bytes:
    """A photo's content.

    Raises:
        UserError: if there is no such file, or it can't be read.
    """
    try:
        return read_file(path)
    except (ImageError, OSError) as error:
        raise UserError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from None


def from_base64(encoded: object, name: str) -> bytes:
    """A photo's content.

    Raises:
        UserError: if ``encoded`` is not in base64.
    """
    if isinstance(encoded, str):
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):  # the latter for letters beyond ASCII
            pass
    raise UserError(f"{name}: not in base64")


def read_photo(content: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a photo as ``vpr.data.images.decode`` does.

    Raises:
        UserError: if it is not an image, or is broken or too large.
    """
    if not content:
        raise UserError(f"{name}: empty")
    try:
        return decode(content, max_pixels)
    except ImageError as error:
        raise UserError(f"{name}: {error}") from None
