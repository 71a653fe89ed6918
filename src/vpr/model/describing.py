"""Turn images into descriptors. Everything that describes images goes through ``Describer``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vpr.config.errors import UserError
from vpr.config.progress import progress
from vpr.data.loading import image_loader
from vpr.model.inference import for_inference, suitable_batch_size


class Describer:
    """A trained network on a device, made fast for inference.

    Args:
        network: Network that maps images ``(B, 3, H, W)`` to descriptors ``(B, D)``; it is copied.
        device: Device to compute on.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.device = device
        self._fast = for_inference(network, device)
        self._batch_sizes: dict[torch.Size, int] = {}

    def describe(
        self,
        images: Any,
        out: NDArray[np.float32],
        batch_size: int | None = None,
        num_workers: int | None = 0,
        title: str = "describing",
        show_progress: bool = True,
    ) -> NDArray[np.float32]:
        """Write the descriptor of each image into ``out``, batch by batch, and return ``out``.

        Args:
            images: Dataset of images ``(3, H, W)``, in order.
            out: Array ``(number of images, D)``, such as a memory map.
            batch_size: Images at a time; ``None`` for as many as suit the device.
            num_workers: Loader processes, see ``loader_processes``.
            title: Name of the work in messages.
            show_progress: Show progress on stderr.

        Raises:
            UserError: if a descriptor is not finite.
        """
        assert len(images) == len(out), "there is a row for each image"
        if not len(out):
            return out
        batches = image_loader(images, batch_size or self._batch_size(images[0].shape), num_workers)
        row = 0
        with torch.inference_mode(), progress(len(out), title, "images", **_hidden_unless(show_progress)) as bar:

            def write(descriptors: Tensor) -> None:
                nonlocal row
                values = descriptors.float().cpu().numpy()
                if not np.isfinite(values).all():
                    raise UserError(
                        f"{title}: descriptors in the batch from image {row + 1} of {len(out)} on are not finite; the "
                        "model's weights are damaged, or its training diverged: train again, or use another checkpoint"
                    )
                out[row : row + len(values)] = values
                row += len(values)
                bar.update(len(values))

            computed: Tensor | None = None  # a GPU may still compute it while the next batch is sent
            for batch in batches:
                descriptors = self._fast(batch.to(self.device, non_blocking=True))
                if computed is not None:
                    write(computed)
                computed = descriptors
            if computed is not None:
                write(computed)
        assert row == len(out), f"{row} descriptors for {len(out)} images"
        return out

    def _batch_size(self, shape: torch.Size) -> int:
        if shape not in self._batch_sizes:
            self._batch_sizes[shape] = suitable_batch_size(self._fast, shape, self.device)
        return self._batch_sizes[shape]


def _hidden_unless(show_progress: bool) -> dict[str, Any]:
    return {} if show_progress else {"disable": True}
