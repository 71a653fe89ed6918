"""Read photos that strangers send."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from vpr.config.errors import UserError

MAX_PIXELS = 64_000_000  # decoded, 192 MB; more is not a photo, or is an attack
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")  # no decoder that runs another program


class TooLarge(UserError):
    """An image of more pixels than a photo has."""


def read_photo(content: bytes, name: str) -> Image.Image:
    """Decode a photo as RGB, turned upright by its EXIF orientation.

    Raises:
        UserError: if it is not an image, or is broken or too large.
    """
    if not content:
        raise UserError(f"{name}: empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise TooLarge(f"{name}: {width} x {height} pixels; send at most {MAX_PIXELS // 10**6} million")
                return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise UserError(f"{name}: not an image; send a JPEG, PNG, WebP or another photo") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name}: too many pixels; send at most {MAX_PIXELS // 10**6} million") from None
    except TooLarge:
        raise
    except Exception as error:  # decoders fail in many ways
        raise UserError(f"{name}: can't be read as an image: {error}") from None
