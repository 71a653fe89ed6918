"""Training data: places, and batches of their images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vpr.data.augmentation import rand_augment
from vpr.data.encoded import EncodedImages
from vpr.data.loading import ImageList
from vpr.data.manifest import city_of
from vpr.data.positions import Positions


@dataclass(frozen=True)
class PlaceBatch:
    """A batch to load.

    Attributes:
        images: Row numbers of the images.
        labels: Place numbers of the images.
        draws: Operations drawn for ``rand_augment``, ``(B, K)``.
    """

    images: list[int]
    labels: list[int]
    draws: NDArray[np.int64]


class Places:
    """The training images grouped by place.

    Args:
        rows: Training rows of the manifest.
        min_images: Places with fewer images are left out.

    Attributes:
        members: Row numbers of each place's images, in file-name order.
        num_left_out: Number of places with too few images.
        cities: City of each place; ``""`` if it is unknown.
        groups: Group of cells of each place; ``""`` if places are not made from positions.
        sources, shares: Source of each place, and the source's share of a batch; 0 if there are no shares.
        centres: Mean position of each place's images, in the grid of its first image with a position.
    """

    def __init__(self, rows: pd.DataFrame, min_images: int) -> None:
        groups = rows.groupby("place_id", sort=True).indices
        self.members = [np.sort(group) for group in groups.values() if len(group) >= min_images]
        self.num_left_out = len(groups) - len(self.members)
        self.images = rows["image"].to_numpy(dtype=object)
        first = [int(group[0]) for group in self.members]
        self.cities = city_of(rows).to_numpy(dtype=object)[first]
        groups_of = rows["group"] if "group" in rows else pd.Series("", index=rows.index)
        self.groups = groups_of.fillna("").to_numpy(dtype=object)[first]
        self.sources = rows.get("source", groups_of).fillna("").to_numpy(dtype=object)[first]
        self.shares = rows.get("share", pd.Series(0.0, index=rows.index)).to_numpy(dtype=float)[first]
        positions = Positions.of(rows)
        grids = np.unique(positions.grids, return_inverse=True)[1]
        located = [int(group[np.argmax(positions.known[group])]) for group in self.members]
        means = [
            (
                positions.utm[group]
                if (grids[group] == grids[k]).all()
                else positions[group].in_grid_of(positions.zones[k])
            ).mean(axis=0)
            for group, k in zip(self.members, located, strict=True)
        ]
        self.centres = Positions(np.array(means).reshape(-1, 2), positions.zones[located])

    def __len__(self) -> int:
        return len(self.members)


@dataclass(frozen=True)
class ImageBatch:
    """A loaded batch.

    Attributes:
        images: Images ``(B, 3, H, W)`` uint8, or encoded images for the training device to decode.
        labels: Place numbers ``(B,)``.
        draws: Operations drawn for ``rand_augment``, ``(B, K)``.
    """

    images: Tensor | EncodedImages
    labels: Tensor
    draws: NDArray[np.int64]

    def pin_memory(self) -> ImageBatch:
        """Pin the memory of the tensors; the loader calls this if there is a GPU."""
        images = self.images if isinstance(self.images, EncodedImages) else self.images.pin_memory()
        return replace(self, images=images, labels=self.labels.pin_memory())

    def to(self, device: torch.device, **options: Any) -> ImageBatch:
        """Move the tensors to a device; Lightning calls this. Draws and encoded files stay in the CPU's memory."""
        options = {"non_blocking": True, **options}
        images = self.images if isinstance(self.images, EncodedImages) else self.images.to(device, **options)
        return replace(self, images=images, labels=self.labels.to(device, **options))


class PlaceImages(Dataset[ImageBatch]):
    """Loads a complete batch at a time: ``dataset[PlaceBatch]``.

    Args:
        images: Images of the rows that ``PlaceBatch`` refers to.
        augment: Augment images in the loader's processes rather than on the training device.
        decode: Decode images in the loader's processes rather than on the training device.
    """

    def __init__(self, images: ImageList, augment: bool = False, decode: bool = True) -> None:
        self.images, self.augment, self.decode = images, augment, decode

    def __getitem__(self, batch: PlaceBatch) -> ImageBatch:
        if not self.decode:
            paths = [self.images.folder / self.images.images[k] for k in batch.images]
            return ImageBatch(EncodedImages.read(paths), torch.tensor(batch.labels), batch.draws)
        images, draws = self.images.batch(batch.images), batch.draws
        if self.augment:
            images, draws = rand_augment(images, draws), draws[:, :0]
        return ImageBatch(images, torch.tensor(batch.labels), draws)
