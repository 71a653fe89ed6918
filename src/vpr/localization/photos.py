"""Read photos that strangers send."""

from __future__ import annotations

from PIL import Image

from vpr.config.errors import UserError
from vpr.data.images import ImageError, decode


def read_photo(content: bytes, name: str) -> Image.Image:
    """Decode a photo as ``vpr.data.images.decode`` does.

    Raises:
        UserError: if it is not an image, or is broken or too large.
    """
    if not content:
        raise UserError(f"{name}: empty")
    try:
        return decode(content)
    except ImageError as error:
        raise UserError(f"{name}: {error}") from None
