"""Image -> pixels at the size that a model takes: one way of resizing for training, extraction and serving."""

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
    """Resize to the size that a model takes; the model itself normalises.

    Args:
        image_size: height and width in pixels; the aspect ratio is not kept.
    """

    def __init__(self, image_size: Sequence[int]) -> None:
        self.image_size = (image_size[0], image_size[1])

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image -> ``(3, H, W)`` uint8."""
        return self.resized(torch.from_numpy(np.array(image)).permute(2, 0, 1))

    def read(self, path: Path) -> Tensor:
        """An image file -> ``(3, H, W)`` uint8.

        Raises:
            UserError: if the file is missing or can't be used; the message names it.
        """
        return self.resized(open_pixels(path))

    def resized(self, pixels: Tensor) -> Tensor:
        """Pixels ``(3, h, w)`` uint8 -> ``(3, H, W)``, with the same filter as Pillow's ``BILINEAR``."""
        if tuple(pixels.shape[1:]) == self.image_size:
            return pixels.contiguous()
        scaled: Tensor = interpolate(pixels[None], self.image_size, mode="bilinear", antialias=True)
        return scaled[0].contiguous()
