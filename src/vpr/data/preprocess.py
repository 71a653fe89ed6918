"""Image -> tensor: one way of resizing and normalising for training, extraction and serving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


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
        self.height, self.width = image_size
        self.mean = torch.tensor(mean, dtype=torch.float32)[:, None, None]
        self.std = torch.tensor(std, dtype=torch.float32)[:, None, None]
        self.augment: Any = None
        if augment_ops:
            from torchvision.transforms import v2  # takes seconds to import

            self.augment = v2.RandAugment(num_ops=augment_ops, interpolation=v2.InterpolationMode.BILINEAR)

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image -> ``(3, H, W)`` float32."""
        resized = image.resize((self.width, self.height), Image.Resampling.BILINEAR)
        if self.augment is not None:
            resized = self.augment(resized)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()
        return pixels.to(torch.float32).mul_(1.0 / 255).sub_(self.mean).div_(self.std)
