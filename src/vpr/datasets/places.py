"""Training data: batches of places, several images of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vpr.datasets.images import Preprocess, open_image


@dataclass(frozen=True)
class PlaceBatch:
    """What to load: ``images`` are row numbers, ``labels`` place numbers, ``seeds`` of the augmentation."""

    images: list[int]
    labels: list[int]
    seeds: list[int]


class Places:
    """Training images by place.

    Args:
        rows: the manifest's training rows.
        min_images: places with fewer images are left out.

    Attributes:
        members: row numbers of each place's images, by place number, in file-name order.
        num_left_out: places that had too few images.
    """

    def __init__(self, rows: pd.DataFrame, min_images: int) -> None:
        groups = rows.groupby("place_id", sort=True).indices
        self.members = [np.sort(group) for group in groups.values() if len(group) >= min_images]
        self.num_left_out = len(groups) - len(self.members)
        self.images = rows["image"].to_numpy(dtype=object)

    def __len__(self) -> int:
        return len(self.members)


class PlaceSampler(Sampler[PlaceBatch]):
    """Batches of ``places_per_batch`` places x ``images_per_place`` images; an epoch sees each place once.

    The last places of an epoch that do not fill a batch are left out of it. Which places meet and which
    images are taken follows from the seed and the epoch alone, so that a resumed run sees the same batches.

    Args:
        random_images: random images of a place, instead of its first.
        shuffle: another order of places in each epoch.

    Raises:
        ValueError: if there are too few places for one batch.
    """

    def __init__(
        self,
        places: Places,
        places_per_batch: int,
        images_per_place: int,
        random_images: bool,
        shuffle: bool,
        seed: int,
    ) -> None:
        if len(places) < places_per_batch:
            raise ValueError(
                f"places_per_batch is {places_per_batch}, but the training set has {len(places)} places with at least "
                f"min_images_per_place images ({places.num_left_out} have fewer); lower one of the two"
            )
        self.places = places
        self.places_per_batch, self.images_per_place = places_per_batch, images_per_place
        self.random_images, self.shuffle = random_images, shuffle
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.places) // self.places_per_batch

    def __iter__(self) -> Iterator[PlaceBatch]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.places)) if self.shuffle else np.arange(len(self.places))
        for b in range(len(self)):
            images: list[int] = []
            labels: list[int] = []
            for place in order[b * self.places_per_batch : (b + 1) * self.places_per_batch]:
                members = self.places.members[place]
                chosen = (
                    rng.choice(members, self.images_per_place, replace=False)
                    if self.random_images
                    else members[: self.images_per_place]
                )
                images += chosen.tolist()
                labels += [int(place)] * self.images_per_place
            yield PlaceBatch(images, labels, rng.integers(0, 2**62, len(images)).tolist())


class PlaceImages(Dataset[tuple[Tensor, Tensor]]):
    """Loads a whole batch at once: ``dataset[PlaceBatch]`` -> images ``(B, 3, H, W)``, labels ``(B,)``.

    Augmentation is seeded for each image, whichever worker loads it.
    """

    def __init__(self, places: Places, folder: Path, preprocess: Preprocess) -> None:
        self.places, self.folder, self.preprocess = places, folder, preprocess

    def __getitem__(self, batch: PlaceBatch) -> tuple[Tensor, Tensor]:
        images = []
        with torch.random.fork_rng(devices=[]):
            for row, seed in zip(batch.images, batch.seeds, strict=True):
                torch.manual_seed(seed)
                images.append(self.preprocess(open_image(self.folder / self.places.images[row])))
        return torch.stack(images), torch.tensor(batch.labels)
