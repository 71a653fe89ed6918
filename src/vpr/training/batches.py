"""Which places share a batch: random ones, those of one city or group, or those that look similar to the model.

Batches of places are those of Ali-bey et al., "GSV-Cities", https://arxiv.org/abs/2210.10239. Similar places are
searched for again in each epoch, by their descriptors alone; ``vpr.training.cliques`` looks at positions as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from vpr.config.errors import UserError
from vpr.data.augmentation import NUM_DRAWS
from vpr.retrieval.positives import positives_within
from vpr.retrieval.search import search
from vpr.training.places import PlaceBatch, Places

_ATTEMPTS = 50


class Unfilled(UserError):
    """A batch can't be filled: every remaining place is too near one in it."""


Describe = Callable[[list[int]], NDArray[np.float32]]
_CANDIDATES = 5  # nearest places looked at, times the size of a group


class PlaceSampler(Sampler[PlaceBatch]):
    """Batches of ``places_per_batch`` places x ``images_per_place`` images; an epoch sees each place once.

    The last places of an epoch, or of a city or group, that do not fill a batch are left out of it. Which places share
    a batch and which images are taken follows from the seed, the epoch and, for similar places, the model at its start:
    a resumed run sees the same batches.

    Args:
        random_images: random images of a place, instead of its first.
        shuffle: another order of places in each epoch.
        batches: ``random`` places, those of one ``city`` or one ``group`` of cells, or ``similar`` ones.
        min_distance_m: no two places of a batch are nearer to each other, in metres between their centres. An epoch
            then sees a place twice where a batch could not be filled otherwise.
        similar_places: how many similar places are put together; a batch has several such groups.
        augment_ops: operations of RandAugment that each image draws.
        describe: row numbers of images -> descriptors ``(number, D)`` of unit norm by the current model, for
            ``similar``.

    Raises:
        UserError: if there are too few places for a batch, or no coordinates where they are needed.
    """

    def __init__(
        self,
        places: Places,
        places_per_batch: int,
        images_per_place: int,
        random_images: bool,
        shuffle: bool,
        seed: int,
        batches: Literal["random", "city", "group", "similar"] = "random",
        min_distance_m: float = 0.0,
        similar_places: int = 10,
        augment_ops: int = 0,
        describe: Describe | None = None,
    ) -> None:
        if len(places) < places_per_batch:
            raise UserError(
                f"places_per_batch is {places_per_batch}, but the training set has {len(places)} places with at least "
                f"min_images_per_place images ({places.num_left_out} have fewer); lower one of the two"
            )
        self.places = places
        self.places_per_batch, self.images_per_place = places_per_batch, images_per_place
        self.random_images, self.shuffle = random_images, shuffle
        self.batches, self.similar_places, self.describe = batches, similar_places, describe
        self.augment_ops = augment_ops
        self.seed, self.epoch = seed, 0
        self._parts = parts_of_batch(places, places_per_batch) if places.shares.any() else []
        if self._parts and (batches != "random" or min_distance_m > 0):
            raise UserError(
                "the dataset gives each source its share of a batch, which goes with random batches and without "
                "min_place_distance_m; set batches to random and that to 0, or shares to null"
            )
        self._near = near_places(places, min_distance_m) if min_distance_m > 0 else []
        everything = np.arange(len(places))
        self._pools = [everything]
        if batches in ("city", "group"):
            pool_of = places.cities if batches == "city" else places.groups
            self._pools = [np.flatnonzero(pool_of == name) for name in sorted(set(pool_of))]
            if not len(self):
                sizes = ", ".join(f"{pool_of[pool[0]] or f'no {batches}'} {len(pool)}" for pool in self._pools[:20])
                raise UserError(
                    f"batches are of one {batches}, and no {batches} has places_per_batch {places_per_batch} places: "
                    f"{sizes}; lower places_per_batch or choose random batches"
                )
        self._fill([pool.tolist() for pool in self._pools])  # fail now rather than in a later epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self._parts:
            return max(len(pool) // number for pool, number in self._parts)
        return sum(len(pool) // self.places_per_batch for pool in self._pools)

    def __iter__(self) -> Iterator[PlaceBatch]:
        rng = np.random.default_rng([self.seed, self.epoch])
        for places in self._batches(rng):
            images: list[int] = []
            labels: list[int] = []
            for place in places:
                members = self.places.members[place]
                chosen = (
                    rng.choice(members, self.images_per_place, replace=False)
                    if self.random_images
                    else members[: self.images_per_place]
                )
                images += chosen.tolist()
                labels += [int(place)] * self.images_per_place
            yield PlaceBatch(images, labels, rng.integers(0, NUM_DRAWS, (len(images), self.augment_ops)))

    def _batches(self, rng: np.random.Generator) -> list[list[int]]:
        """Place numbers of each batch of the epoch; another order is tried where one leaves a batch unfilled."""
        if self._parts:
            return self._shared(rng)
        orders = self._orders(rng)
        groups: list[list[int]] = []
        if self.batches == "similar":
            assert self.describe is not None, "similar places are found by a model"
            shown = [int(rng.choice(members)) for members in self.places.members]
            groups = similar_groups(self.describe(shown), self.similar_places, orders[0])
        for attempt in range(_ATTEMPTS):
            if groups:
                orders = [[place for k in rng.permutation(len(groups)) for place in groups[k]]]
            elif attempt:
                orders = self._orders(rng)
            try:
                batches = self._fill(orders)
                break
            except Unfilled:
                if attempt + 1 == _ATTEMPTS:
                    raise
        if self.batches in ("city", "group") and self.shuffle:
            batches = [batches[k] for k in rng.permutation(len(batches))]
        return batches

    def _shared(self, rng: np.random.Generator) -> list[list[int]]:
        """Batches in which each source has its share; a source that is through begins again."""
        of_sources = []
        for pool, number in self._parts:
            needed = len(self) * number
            rounds = [rng.permutation(pool) if self.shuffle else pool for _ in range(-(-needed // len(pool)))]
            of_sources.append(np.concatenate(rounds)[:needed].reshape(len(self), number))
        return [[int(place) for part in batch for place in part] for batch in zip(*of_sources, strict=True)]

    def _orders(self, rng: np.random.Generator) -> list[list[int]]:
        return [(rng.permutation(pool) if self.shuffle else pool).tolist() for pool in self._pools]

    def _fill(self, orders: list[list[int]]) -> list[list[int]]:
        size = self.places_per_batch
        return [batch for order in orders for batch in fill_batches(order, len(order) // size, size, self._near)]


def parts_of_batch(places: Places, places_per_batch: int) -> list[tuple[NDArray[np.int64], int]]:
    """The places of each source, and how many of them a batch has: their shares, rounded to whole places.

    Raises:
        UserError: if a source has fewer places than that, or a share is less than a place.
    """
    names = sorted(set(places.sources))
    pools = [np.flatnonzero(places.sources == name) for name in names]
    exact = [places.shares[pool[0]] * places_per_batch for pool in pools]
    numbers = [int(share) for share in exact]
    by_remainder = sorted(range(len(names)), key=lambda k: numbers[k] - exact[k])
    for k in by_remainder[: places_per_batch - sum(numbers)]:
        numbers[k] += 1
    for name, pool, number in zip(names, pools, numbers, strict=True):
        if not 0 < number <= len(pool):
            raise UserError(
                f"{name} has {len(pool)} places and {number} of the {places_per_batch} of a batch; change shares or "
                "places_per_batch"
            )
    return list(zip(pools, numbers, strict=True))


def near_places(places: Places, distance_m: float) -> list[frozenset[int]]:
    """The other places nearer than a distance to each place, by the means of their images' coordinates.

    Raises:
        UserError: if a place has no coordinates.
    """
    unknown = int((~np.isfinite(places.centres).all(axis=1)).sum())
    if unknown:
        raise UserError(
            f"min_place_distance_m is {distance_m}, but {unknown} of {len(places)} training places have no "
            "coordinates; set it to 0, or give their images utm_east and utm_north"
        )
    within = positives_within(places.centres, places.centres, distance_m, places.zones, places.zones)
    return [
        frozenset(
            int(k) for k in near if k != own and np.hypot(*(places.centres[k] - places.centres[own])) < distance_m
        )
        for own, near in enumerate(within)
    ]


def fill_batches(order: Sequence[int], num: int, size: int, near: Sequence[frozenset[int]]) -> list[list[int]]:
    """Put places into batches one after the other, each into the first that has room and no place near it.

    Args:
        order: place numbers, each once.
        num, size: of the batches.
        near: for each place those that it must not share a batch with; empty if any may.

    Returns:
        ``num`` batches of ``size`` different places. A place is in two of them only where one would lack it otherwise.

    Raises:
        Unfilled: if a batch can't be filled.
    """
    if not near:
        return [list(order[k * size : (k + 1) * size]) for k in range(num)]
    batches: list[list[int]] = [[] for _ in range(num)]
    refused: list[set[int]] = [set() for _ in range(num)]  # already there, or near to one that is

    def put(place: int, k: int) -> bool:
        if len(batches[k]) == size or place in refused[k]:
            return False
        batches[k].append(place)
        refused[k] |= {place, *near[place]}
        return True

    first_open = 0
    for place in order:
        any(put(place, k) for k in range(first_open, num))
        while first_open < num and len(batches[first_open]) == size:
            first_open += 1
    for k in range(num):
        for place in order:
            if len(batches[k]) == size:
                break
            put(place, k)
        if len(batches[k]) < size:
            raise Unfilled(
                f"min_place_distance_m is too large: a batch of {len(batches[k])} places has no other place far enough "
                f"from all of them, and places_per_batch is {size}; lower one of the two"
            )
    return batches


def similar_groups(descriptors: NDArray[np.float32], size: int, order: Sequence[int]) -> list[list[int]]:
    """Groups of up to ``size`` places: the next in ``order`` that has none, with the nearest that have none.

    Args:
        descriptors: ``(number of places, D)``, rows of unit norm.

    Returns:
        Every place of ``order`` in one group.
    """
    ranking, _ = search(descriptors, descriptors, min(len(descriptors), _CANDIDATES * size))
    free = np.zeros(len(descriptors), dtype=bool)
    free[np.asarray(order)] = True
    groups = []
    for place in order:
        if not free[place]:
            continue
        free[place] = False
        nearest = [int(k) for k in ranking[place] if free[k]][: size - 1]
        free[nearest] = False
        groups.append([int(place), *nearest])
    return groups
