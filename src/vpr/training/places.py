"""Training data: places, and the images of a batch of them."""

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


@dataclass(frozen=True)
class PlaceBatch:
    """What to load: ``images`` are row numbers, ``labels`` place numbers, ``draws`` of ``rand_augment``."""

    images: list[int]
    labels: list[int]
    draws: NDArray[np.int64]


class Places:
    """Training images by place.

    Args:
        rows: the manifest's training rows.
        min_images: places with fewer images are left out.

    Attributes:
        members: row numbers of each place's images, by place number, in file-name order.
        num_left_out: places that had too few images.
        cities: the city of each place; ``""`` where none is known.
        groups: the group of cells of each place; ``""`` where places are not made from positions.
        sources, shares: the source of each place, and its share of a batch; 0 where none is asked for.
        centres, zones: mean UTM east and north ``(number, 2)`` of its images, and the zone of the first.
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
        utm = rows[["utm_east", "utm_north"]].to_numpy(dtype=np.float64)
        self.centres = np.array([utm[group].mean(axis=0) for group in self.members]).reshape(-1, 2)
        self.zones = rows["utm_zone"].iloc[first].to_list()

    def __len__(self) -> int:
        return len(self.members)


@dataclass(frozen=True)
class ImageBatch:
    """Images ``(B, 3, H, W)`` uint8, place numbers ``(B,)``, and what each image has drawn of ``rand_augment``.

    Encoded images are for the device that trains to decode.
    """

    images: Tensor | EncodedImages
    labels: Tensor
    draws: NDArray[np.int64]

    def pin_memory(self) -> ImageBatch:
        """Called by the loader where there is a GPU."""
        images = self.images if isinstance(self.images, EncodedImages) else self.images.pin_memory()
        return replace(self, images=images, labels=self.labels.pin_memory())

    def to(self, device: torch.device, **options: Any) -> ImageBatch:
        """Called by Lightning. The draws stay, as they say which kernels to start, and so do files, for the decoder."""
        options = {"non_blocking": True, **options}
        images = self.images if isinstance(self.images, EncodedImages) else self.images.to(device, **options)
        return replace(self, images=images, labels=self.labels.to(device, **options))


class PlaceImages(Dataset[ImageBatch]):
    """Loads a whole batch at once: ``dataset[PlaceBatch]``.

    Args:
        images: those of the rows that ``PlaceBatch`` counts.
        augment: here, in the loader's processes, rather than on the device that trains.
        decode: here as well.
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
