"""Evaluation data: the images of a database or of queries, in the manifest's order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vpr.data.images import open_image
from vpr.data.preprocess import Preprocess


class ImageList(Dataset[Tensor]):
    """Images ``(3, H, W)``, preprocessed, in the order of ``images``."""

    def __init__(self, folder: Path, images: Iterable[str], preprocess: Preprocess) -> None:
        self.folder, self.images, self.preprocess = folder, list(images), preprocess

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.preprocess(open_image(self.folder / self.images[index]))


def image_loader(images: ImageList, batch_size: int, num_workers: int | None) -> DataLoader[Tensor]:
    """Batches ``(B, 3, H, W)`` in order."""
    return DataLoader(images, batch_size=batch_size, num_workers=loader_processes(num_workers))


def loader_processes(num_workers: int | None) -> int:
    """Loader processes to start: as asked for, or one less than the cores, at most 8."""
    return num_workers if num_workers is not None else min(8, max(1, (os.cpu_count() or 2) - 1))
