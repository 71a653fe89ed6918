"""Model + images -> descriptors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from vpr.config.errors import UserError
from vpr.config.progress import progress
from vpr.data.loading import image_loader
from vpr.model.inference import for_inference, suitable_batch_size


def extract(
    model: nn.Module,
    images: Dataset[Tensor],
    out: NDArray[np.float32],
    device: torch.device,
    batch_size: int | None = None,
    num_workers: int | None = None,
    title: str = "extracting",
) -> None:
    """Write the descriptor of each image into ``out``, batch by batch.

    Args:
        model: maps ``(B, 3, H, W)`` to ``(B, D)``; it is left as it is.
        images: ``(3, H, W)`` each, in order.
        out: ``(number of images, D)``, such as a memory map.
        batch_size: images at a time; ``None`` for as many as suit the device.
        num_workers: see ``loader_processes``.

    Raises:
        UserError: if a descriptor is not finite.
    """
    if not len(out):
        return
    fast = for_inference(model, device)
    batches = image_loader(images, batch_size or suitable_batch_size(fast, images[0].shape, device), num_workers)
    row = 0
    with torch.inference_mode(), progress(len(out), title, "images") as bar:

        def write(descriptors: Tensor) -> None:
            nonlocal row
            values = descriptors.float().cpu().numpy()
            if not np.isfinite(values).all():
                raise UserError(
                    f"{title}: the model's descriptors are not finite numbers, from image {row + 1} of {len(out)} on; "
                    "its weights are damaged, or its training went wrong: train again, or take another checkpoint"
                )
            out[row : row + len(values)] = values
            row += len(values)
            bar.update(len(values))

        computed: Tensor | None = None  # by a GPU perhaps still, while the next batch is sent to it
        for batch in batches:
            descriptors = fast(batch.to(device, non_blocking=True))
            if computed is not None:
                write(computed)
            computed = descriptors
        if computed is not None:
            write(computed)
    assert row == len(out), f"{row} descriptors for {len(out)} images"
