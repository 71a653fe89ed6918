"""Batches of places that look alike and are not the same, cut from a graph of images by their positions.

CliqueMining: Izquierdo and Civera, "Close, But Not There: Boosting Geographic Distance Sensitivity in Visual Place
Recognition", ECCV 2024, https://arxiv.org/abs/2407.02422. Images of which each is near each other, a clique of the
graph of near images, are a place, wherever its borders are; what is near one of them is no other place of the batch. An
anchor and the images that the current model finds most similar to it are where cliques are looked for, so a batch is
full of places that the model confuses. Left out: that images come in sequences, which not every dataset has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch.utils.data import Sampler

from vpr.config.errors import UserError
from vpr.data.augmentation import NUM_DRAWS
from vpr.retrieval.positives import positives_within, utm_of
from vpr.retrieval.search import search
from vpr.training.places import PlaceBatch

MAX_TURN_DEG = 40.0  # views turned farther from each other are not near, as in MSLS; where headings are known
_CANDIDATES = 10  # images looked at, times the images of a group
_MOST_DESCRIBED = 50_000  # anchors and candidates of an epoch


class CliqueSampler(Sampler[PlaceBatch]):
    """Batches of ``places_per_batch`` cliques of ``images_per_place`` images.

    An epoch has as many batches as the images fill. Which images share a batch follows from the seed, the epoch and the
    model at its start: a resumed run sees the same batches. A label is good for its batch alone.

    Args:
        rows: the manifest's training rows.
        similar_places: cliques that are cut around one anchor.
        near_m: images of a place are at most so far apart, images of two places of a batch farther.
        augment_ops: operations of RandAugment that each image draws.
        describe: row numbers of images -> descriptors ``(number, D)`` of unit norm by the current model.

    Raises:
        UserError: if an image has no position, or there are too few cliques for a batch.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        places_per_batch: int,
        images_per_place: int,
        similar_places: int,
        near_m: float,
        seed: int,
        augment_ops: int,
        describe: Callable[[list[int]], NDArray[np.float32]],
    ) -> None:
        self.near = near_images(rows, near_m)
        self.places_per_batch, self.images_per_place = places_per_batch, images_per_place
        self.similar_places, self.augment_ops = similar_places, augment_ops
        self.seed, self.epoch, self.describe = seed, 0, describe
        self.number = len(rows) // (places_per_batch * images_per_place)
        first = self._fill(np.random.default_rng(seed).permutation(len(rows)).tolist(), self._no_order)
        if not self.number or first is None:  # fail now rather than in a later epoch
            raise UserError(
                f"batches are cliques, and there are not {places_per_batch} places, each of {images_per_place} images "
                f"at most {near_m:g} m apart and farther from all others: raise or lower clique_m, or lower "
                "places_per_batch or images_per_place"
            )

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[PlaceBatch]:
        rng = np.random.default_rng([self.seed, self.epoch])
        shown = np.sort(rng.permutation(len(self.near))[:_MOST_DESCRIBED])
        descriptors = self.describe(shown.tolist())
        wanted = min(len(shown), _CANDIDATES * self.similar_places * self.images_per_place)

        def alike(anchor: int) -> list[int]:
            at = int(np.searchsorted(shown, anchor))
            if at == len(shown) or shown[at] != anchor:
                return []
            ranking, _ = search(descriptors, descriptors[at : at + 1], wanted)
            return [int(k) for k in shown[ranking[0]]]

        anchors = rng.permutation(shown).tolist()
        for number in range(len(self)):
            own = anchors[number * len(anchors) // len(self) :] + anchors  # of the others, if its own do not fill it
            places = self._fill(own, alike, rng) or self._fill(
                rng.permutation(len(self.near)).tolist(), self._no_order, rng
            )
            assert places is not None, "such a batch was found in the beginning"
            images = [image for place in places for image in place]
            labels = [number * self.places_per_batch + k for k, place in enumerate(places) for _ in place]
            yield PlaceBatch(images, labels, rng.integers(0, NUM_DRAWS, (len(images), self.augment_ops)))

    @staticmethod
    def _no_order(anchor: int) -> list[int]:
        return []

    def _fill(
        self,
        anchors: Sequence[int],
        alike: Callable[[int], list[int]],
        rng: np.random.Generator | None = None,
    ) -> list[list[int]] | None:
        """The places of a batch: cliques around one anchor after the other; ``None`` if they do not fill it."""
        places: list[list[int]] = []
        taken: set[int] = set()
        for anchor in anchors:
            if anchor in taken:
                continue
            group = 0
            for image in [anchor, *alike(anchor)]:
                clique = None if image in taken else clique_with(image, self.near, taken, self.images_per_place, rng)
                if clique is None:
                    continue
                places.append(clique)
                group += 1
                for member in clique:
                    taken |= self.near[member]
                if len(places) == self.places_per_batch:
                    return places
                if group == self.similar_places:
                    break
        return None


def near_images(rows: pd.DataFrame, near_m: float) -> list[set[int]]:
    """For each image the images near it, itself included.

    Raises:
        UserError: if an image has no position.
    """
    utm, zones = utm_of(rows), rows["utm_zone"].to_list()
    unknown = int((~np.isfinite(utm).all(axis=1)).sum())
    if unknown:
        raise UserError(
            f"batches are cliques of near images, and {unknown} of {len(rows)} training images have no coordinates; "
            "choose other batches, or give them utm_east and utm_north"
        )
    heading = rows["heading"].to_numpy(dtype=float)
    near = []
    for own, found in enumerate(positives_within(utm, utm, near_m, zones, zones)):
        turn = np.abs((heading[found] - heading[own] + 180) % 360 - 180)
        near.append({own, *np.asarray(found)[~(turn > MAX_TURN_DEG)].tolist()})
    return near


def clique_with(
    image: int, near: Sequence[set[int]], taken: set[int], size: int, rng: np.random.Generator | None = None
) -> list[int] | None:
    """``size`` images, this one first, of which each is near each other and none is taken; ``None`` if none is found.

    They are collected one after the other: of those near to all so far, a random one.
    """
    clique, common = [image], near[image] - taken - {image}
    while len(clique) < size and common:
        ordered = sorted(common)
        chosen = ordered[0 if rng is None else int(rng.integers(len(ordered)))]
        clique.append(chosen)
        common = (common & near[chosen]) - {chosen}
    return clique if len(clique) == size else None
