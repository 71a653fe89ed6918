"""Batches of different places that look alike, found as cliques in a graph of nearby images.

CliqueMining: Izquierdo and Civera, "Close, But Not There: Boosting Geographic Distance Sensitivity in Visual Place
    Recognition", ECCV 2024, https://arxiv.org/abs/2407.02422. A place is a clique in the graph of nearby images, so
    that all
of its images are near each other, and no image near to it belongs to another place of the batch. Cliques are searched
for among an anchor and the images that the current model finds most similar to it, so a batch is full of places that
the model confuses. Left out: the paper's use of sequences, which not every dataset has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from vpr.config.errors import UserError
from vpr.data.augmentation import NUM_DRAWS
from vpr.data.positions import Positions, near
from vpr.retrieval.search import search
from vpr.training.batches import Describe
from vpr.training.params import TrainParams
from vpr.training.places import PlaceBatch

MAX_TURN_DEG = 40.0  # images whose headings differ by more are not near, as in MSLS; unknown headings are ignored
_CANDIDATES = 10  # images to search, as a multiple of the images of a group
_MOST_DESCRIBED = 50_000  # most anchors and candidates of an epoch


class CliqueSampler(Sampler[PlaceBatch]):
    """Batches of ``places_per_batch`` cliques of ``images_per_place`` images.

    An epoch has as many batches as the images fill. The batches depend on the seed, the epoch and the model at the
    start of the epoch, so that a resumed run sees the same batches. Labels are valid within one batch only.

    Args:
        rows: Training rows of the manifest.
        settings: Training settings.
        describe: Describes images by the current model.

    Raises:
        UserError: if an image has no position, or there are too few cliques for a batch.
    """

    def __init__(self, rows: pd.DataFrame, settings: TrainParams, describe: Describe) -> None:
        places_per_batch, images_per_place = settings.places_per_batch, settings.images_per_place
        self.near = near_images(rows, settings.clique_m)
        self.settings, self.describe, self.epoch = settings, describe, 0
        self.places_per_batch, self.images_per_place = places_per_batch, images_per_place
        self.number = len(rows) // (places_per_batch * images_per_place)
        first = self._fill(np.random.default_rng(settings.seed).permutation(len(rows)).tolist(), self._none_similar)
        if not self.number or first is None:  # fail now rather than in a later epoch
            raise UserError(
                f"batches are cliques, but there are not {places_per_batch} places of {images_per_place} images each "
                f"that are at most {settings.clique_m:g} m apart, and farther from all others; raise or lower "
                "clique_m, or lower places_per_batch or images_per_place"
            )

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[PlaceBatch]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.epoch])
        shown = np.sort(rng.permutation(len(self.near))[:_MOST_DESCRIBED])
        descriptors = self.describe(shown.tolist())
        wanted = min(len(shown), _CANDIDATES * settings.similar_places * self.images_per_place)

        def similar(anchor: int) -> list[int]:
            at = int(np.searchsorted(shown, anchor))
            if at == len(shown) or shown[at] != anchor:
                return []
            ranking, _ = search(descriptors, descriptors[at : at + 1], wanted)
            return [int(k) for k in shown[ranking[0]]]

        anchors = rng.permutation(shown).tolist()
        for number in range(len(self)):
            # The anchors of this batch come first, and all others follow in case these do not fill it.
            own = anchors[number * len(anchors) // len(self) :] + anchors
            places = self._fill(own, similar, rng) or self._fill(
                rng.permutation(len(self.near)).tolist(), self._none_similar, rng
            )
            assert places is not None, "the constructor found such a batch"
            images = [image for place in places for image in place]
            labels = [number * self.places_per_batch + k for k, place in enumerate(places) for _ in place]
            yield PlaceBatch(images, labels, rng.integers(0, NUM_DRAWS, (len(images), settings.augment_ops)))

    @staticmethod
    def _none_similar(anchor: int) -> list[int]:
        return []

    def _fill(
        self,
        anchors: Sequence[int],
        similar: Callable[[int], list[int]],
        rng: np.random.Generator | None = None,
    ) -> list[list[int]] | None:
        """Return the places of a batch, cliques around one anchor after the other; ``None`` if they do not fill it."""
        places: list[list[int]] = []
        taken: set[int] = set()
        for anchor in anchors:
            if anchor in taken:
                continue
            group = 0
            for image in [anchor, *similar(anchor)]:
                clique = None if image in taken else clique_with(image, self.near, taken, self.images_per_place, rng)
                if clique is None:
                    continue
                places.append(clique)
                group += 1
                for member in clique:
                    taken |= self.near[member]
                if len(places) == self.places_per_batch:
                    return places
                if group == self.settings.similar_places:
                    break
        return None


def near_images(rows: pd.DataFrame, near_m: float) -> list[set[int]]:
    """Return the images near to each image, including itself.

    Raises:
        UserError: if an image has no position.
    """
    positions = Positions.of(rows)
    unknown = int((~positions.known).sum())
    if unknown:
        raise UserError(
            f"batches are cliques of nearby images, but {unknown} of {len(rows)} training images have no coordinates; "
            "choose other batches, or add utm_east and utm_north"
        )
    heading = rows["heading"].to_numpy(dtype=float)
    result = []
    for own, found in enumerate(near(positions, positions, near_m)):
        turn = np.abs((heading[found] - heading[own] + 180) % 360 - 180)
        result.append({own, *found[~(turn > MAX_TURN_DEG)].tolist()})
    return result


def clique_with(
    image: int, near: Sequence[set[int]], taken: set[int], size: int, rng: np.random.Generator | None = None
) -> list[int] | None:
    """Find ``size`` images, this one first, that are all near each other and not taken; ``None`` if there are too few.

    The images are collected one by one, each a random one of those near to all images so far.
    """
    clique, common = [image], near[image] - taken - {image}
    while len(clique) < size and common:
        ordered = sorted(common)
        chosen = ordered[0 if rng is None else int(rng.integers(len(ordered)))]
        clique.append(chosen)
        common = (common & near[chosen]) - {chosen}
    return clique if len(clique) == size else None
