"""Resize images to the size that a model takes. Training, extraction and serving all use this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from vpr.data.images import open_pixels


class Preprocess:
    """Resizes images; the model itself normalises the colours.

    Args:
        image_size: Height and width in pixels; the aspect ratio is not kept.
    """

    def __init__(self, image_size: Sequence[int]) -> None:
        self.image_size = (image_size[0], image_size[1])

    def __call__(self, image: Image.Image) -> Tensor:
        """Convert an RGB image to ``(3, H, W)`` uint8."""
        return self.resized(torch.from_numpy(np.array(image)).permute(2, 0, 1))

    def read(self, path: Path) -> Tensor:
        """Read an image file as ``(3, H, W)`` uint8.

        Raises:
            UserError: if the file is missing or cannot be used; the message names it.
        """
        return self.resized(open_pixels(path))

    def resized(self, pixels: Tensor) -> Tensor:
        """Resize pixels ``(3, h, w)`` uint8 to ``(3, H, W)`` with the filter of Pillow's ``BILINEAR``."""
        if tuple(pixels.shape[1:]) == self.image_size:
            return pixels.contiguous()
        scaled: Tensor = interpolate(pixels[None], self.image_size, mode="bilinear", antialias=True)
        return scaled[0].contiguous()
