"""Model + images -> descriptors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from vpr.config.errors import UserError


def extract(
    model: nn.Module,
    batches: Iterable[Tensor],
    out: NDArray[np.float32],
    device: torch.device,
    title: str = "extracting",
) -> None:
    """Write the descriptor of each image into ``out``, batch by batch.

    Args:
        model: maps ``(B, 3, H, W)`` to ``(B, D)``; put into evaluation mode.
        batches: of images, in order.
        out: ``(number of images, D)``, such as a memory map.

    Raises:
        UserError: if a descriptor is not finite.
    """
    model.to(device).to(memory_format=torch.channels_last).eval()
    row = 0
    with torch.inference_mode(), tqdm(total=len(out), unit="image", desc=title, mininterval=1) as bar:
        for images in batches:
            images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
            descriptors = model(images).float().cpu().numpy()
            if not np.isfinite(descriptors).all():
                raise UserError(
                    f"{title}: the model's descriptors are not finite numbers, from image {row + 1} of {len(out)} on; "
                    "its weights are damaged, or its training went wrong: train again, or take another checkpoint"
                )
            out[row : row + len(descriptors)] = descriptors
            row += len(descriptors)
            bar.update(len(descriptors))
    assert row == len(out), f"{row} descriptors for {len(out)} images"


def descriptors_now(
    model: nn.Module, batches: Iterable[Tensor], shape: tuple[int, int], device: torch.device
) -> NDArray[np.float32]:
    """Descriptors ``(number of images, D)`` of a model that is being trained, which is left as it was."""
    training = model.training
    out = np.empty(shape, dtype=np.float32)
    try:
        extract(model, batches, out, device, "looking for similar places")
    finally:
        model.train(training)
    return out
