"""Training data: places, and the images of a batch of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vpr.data.images import open_image
from vpr.data.manifest import city_of
from vpr.data.preprocess import Preprocess


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
        cities: the city of each place; ``""`` where none is known.
        centres, zones: mean UTM east and north ``(number, 2)`` of its images, and the zone of the first.
    """

    def __init__(self, rows: pd.DataFrame, min_images: int) -> None:
        groups = rows.groupby("place_id", sort=True).indices
        self.members = [np.sort(group) for group in groups.values() if len(group) >= min_images]
        self.num_left_out = len(groups) - len(self.members)
        self.images = rows["image"].to_numpy(dtype=object)
        first = [int(group[0]) for group in self.members]
        self.cities = city_of(rows).to_numpy(dtype=object)[first]
        utm = rows[["utm_east", "utm_north"]].to_numpy(dtype=np.float64)
        self.centres = np.array([utm[group].mean(axis=0) for group in self.members]).reshape(-1, 2)
        self.zones = rows["utm_zone"].iloc[first].to_list()

    def __len__(self) -> int:
        return len(self.members)


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
