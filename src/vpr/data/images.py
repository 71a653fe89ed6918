"""Image file -> image: one way of reading for training, extraction and the report."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

from vpr.config.errors import UserError


def open_image(path: Path) -> Image.Image:
    """Decode an image as RGB, turned upright by its EXIF orientation.

    Raises:
        UserError: if the file is missing or broken; the message names it.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # decoders fail in many ways
        raise UserError(
            f"{path}: can't be read as an image: {error}; `dvc repro --force --single-item verify` lists all such"
        ) from None
