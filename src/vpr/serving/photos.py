"""Read photos that strangers send."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from PIL import Image

from vpr.config.errors import UserError
from vpr.data.images import MAX_PIXELS, ImageError, decode, read_file


def from_file(path: Path) -> bytes:
    """Return the content of a photo's file.

    Raises:
        UserError: if the file is missing or cannot be read.
    """
    try:
        return read_file(path)
    except (ImageError, OSError) as error:
        raise UserError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from None


def from_base64(encoded: object, name: str) -> bytes:
    """Return the content of a photo in base64.

    Raises:
        UserError: if ``encoded`` is not base64; the message names the photo.
    """
    if isinstance(encoded, str):
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):  # letters beyond ASCII raise ValueError
            pass
    raise UserError(f"{name}: not in base64")


def read_photo(content: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a photo as ``vpr.data.images.decode`` does.

    Raises:
        UserError: if the content is not an image, or is damaged or too large; the message names the photo.
    """
    if not content:
        raise UserError(f"{name}: empty")
    try:
        return decode(content, max_pixels)
    except ImageError as error:
        raise UserError(f"{name}: {error}") from None
