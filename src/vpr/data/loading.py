"""Images as tensors, one by one or in batches, those that fit kept decoded."""

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
    """Images ``(3, H, W)`` uint8 at the size that a model takes, in the order of ``images``."""

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
        """Several images, ``(number, 3, H, W)``."""
        rows = torch.tensor(indices)
        if len(self._kept) == len(self) and self._is_kept[rows].all():
            return self._kept.index_select(0, rows)
        return torch.stack([self[index] for index in indices])

    def keep_decoded(self, num_bytes: float, num_workers: int) -> int:
        """From now on, read images once and keep them: all, or as many as fit, the first ones.

        Args:
            num_bytes: that they may take; where processes share them, at most what shared memory has left.
            num_workers: of the loader; its processes share what is kept.

        Returns:
            Bytes that were taken.
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
    """Batches ``(B, 3, H, W)`` in order, pinned where there is a GPU."""
    processes = loader_processes(num_workers)
    return DataLoader(images, batch_size=batch_size, num_workers=processes, pin_memory=torch.cuda.is_available())


def loader_processes(num_workers: int | None, ranks: int = 1) -> int:
    """Loader processes to start: as asked for, or one less than the cores, at most 8.

    Args:
        ranks: of this machine, which share its cores.
    """
    return num_workers if num_workers is not None else min(8, max(1, (os.cpu_count() or 2) // ranks - 1))
