"""Load images as tensors, one by one or in batches, and keep decoded images in memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vpr.data.preprocess import Preprocess

_SHARED_MEMORY = Path("/dev/shm")


class ImageList(Dataset[Tensor]):
    """Image files as tensors ``(3, H, W)`` uint8 at the size that a model takes.

    Args:
        folder: Folder that the paths start from.
        images: Paths of the images.
        preprocess: Function that resizes each image to this size.
    """

    def __init__(self, folder: Path, images: Iterable[str], preprocess: Preprocess) -> None:
        self.folder, self.images, self.preprocess = folder, list(images), preprocess
        self._kept = torch.empty((0, 3, *preprocess.image_size), dtype=torch.uint8)
        self._is_kept = torch.zeros(0, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        if index >= len(self._kept):
            return self._read(index)
        if not self._is_kept[index]:
            self._kept[index] = self._read(index)
            self._is_kept[index] = True
        return self._kept[index]

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Return several images, ``(number, 3, H, W)``."""
        rows = torch.tensor(indices)
        if len(self._kept) == len(self) and self._is_kept[rows].all():
            return self._kept.index_select(0, rows)
        return torch.stack([self[index] for index in indices])

    def keep_decoded(self, num_bytes: float, num_workers: int) -> int:
        """Keep decoded images in memory from now on: all of them or, if they do not fit, the first ones that do.

        Args:
            num_bytes: Largest memory for them, in bytes; also limited by free shared memory if loader processes share
                them.
            num_workers: Number of loader processes, which share the images.

        Returns:
            Number of bytes that were reserved.
        """
        height, width = self.preprocess.image_size
        if num_workers and _SHARED_MEMORY.is_dir():
            num_bytes = min(num_bytes, 0.8 * shutil.disk_usage(_SHARED_MEMORY).free)
        number = int(min(len(self), max(0, num_bytes) // (3 * height * width)))
        self._kept = torch.empty((number, 3, height, width), dtype=torch.uint8)
        self._is_kept = torch.zeros(number, dtype=torch.bool)
        if num_workers:
            for tensor in (self._kept, self._is_kept):
                tensor.share_memory_()  # type: ignore[no-untyped-call]
        return self._kept.numel()

    def _read(self, index: int) -> Tensor:
        return self.preprocess.read(self.folder / self.images[index])


def image_loader(images: Dataset[Tensor], batch_size: int, num_workers: int | None) -> DataLoader[Tensor]:
    """Return a loader of batches ``(B, 3, H, W)`` in order, in pinned memory if there is a GPU."""
    processes = loader_processes(num_workers)
    return DataLoader(images, batch_size=batch_size, num_workers=processes, pin_memory=torch.cuda.is_available())


def loader_processes(num_workers: int | None, ranks: int = 1) -> int:
    """Return the number of loader processes to start.

    Args:
        num_workers: Number that was asked for; ``None`` for one less than the cores, at most 8.
        ranks: Number of training processes that share the machine's cores.
    """
    return num_workers if num_workers is not None else min(8, max(1, (os.cpu_count() or 2) // ranks - 1))
