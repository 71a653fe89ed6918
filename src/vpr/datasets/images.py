"""Image file -> tensor: one way of reading and resizing for training, extraction and serving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F


def open_image(path: Path) -> Image.Image:
    """Decode an image as RGB, turned upright by its EXIF orientation.

    Raises:
        OSError: if the file is missing or broken; the message names it.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # decoders fail in many ways
        raise OSError(
            f"{path}: can't be read as an image: {error}; `dvc repro --force --single-item verify` lists all such"
        ) from None


class Preprocess:
    """Resize, augment in training, scale to [0, 1] and normalise.

    Args:
        image_size: height and width in pixels; the aspect ratio is not kept.
        mean, std: per colour channel.
        augment_ops: operations of RandAugment; 0 outside training.
    """

    def __init__(
        self, image_size: Sequence[int], mean: Sequence[float], std: Sequence[float], augment_ops: int = 0
    ) -> None:
        self.image_size = list(image_size)
        self.mean, self.std = list(mean), list(std)
        self.augment = v2.RandAugment(num_ops=augment_ops) if augment_ops else None

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image -> ``(3, H, W)`` float32."""
        resized = F.resize(image, self.image_size, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
        if self.augment is not None:
            resized = self.augment(resized)
        scaled = F.to_dtype(F.pil_to_tensor(resized), torch.float32, scale=True)
        return F.normalize(scaled, self.mean, self.std)
