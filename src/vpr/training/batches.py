"""Batches of random places, of places from one city or group, or of places that look similar to the model.

Batches of places follow Ali-bey et al., "GSV-Cities", https://arxiv.org/abs/2210.10239. Similar places are found again
in each epoch by their descriptors alone; ``vpr.training.cliques`` uses positions as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from vpr.config.errors import UserError
from vpr.data.augmentation import NUM_DRAWS
from vpr.data.positions import near
from vpr.retrieval.search import search
from vpr.training.params import TrainParams
from vpr.training.places import PlaceBatch, Places

_ATTEMPTS = 50


class Unfilled(UserError):
    """A batch cannot be filled, because every remaining place is too near to one in it."""


Describe = Callable[[list[int]], NDArray[np.float32]]
"""Function of row numbers of images that returns their descriptors ``(number, D)`` by the current model."""
_CANDIDATES = 5  # nearest places to search, as a multiple of the size of a group


class PlaceSampler(Sampler[PlaceBatch]):
    """Batches of ``places_per_batch`` places with ``images_per_place`` images each; an epoch sees each place once.

    Places at the end of an epoch, or of a city or group, that do not fill a batch are left out of the epoch. With
    ``min_place_distance_m``, an epoch sees a place twice if a batch could not be filled otherwise. The batches depend
    on the seed, the epoch and, for similar places, on the model at the start of the epoch, so that a resumed run sees
    the same batches.

    Args:
        places: Places to sample from.
        settings: Training settings.
        describe: Describes images by the current model; only necessary for similar places.

    Raises:
        UserError: if there are too few places for a batch, or coordinates are necessary and missing.
    """

    def __init__(self, places: Places, settings: TrainParams, describe: Describe | None = None) -> None:
        places_per_batch, batches = settings.places_per_batch, settings.batches
        min_distance_m = settings.min_place_distance_m
        if len(places) < places_per_batch:
            raise UserError(
                f"places_per_batch is {places_per_batch}, but the training set has {len(places)} places with at least "
                f"min_images_per_place images ({places.num_left_out} have fewer); lower one of the two"
            )
        self.places, self.settings, self.describe = places, settings, describe
        self.places_per_batch, self.images_per_place = places_per_batch, settings.images_per_place
        self.epoch = 0
        self._parts = parts_of_batch(places, places_per_batch) if places.shares.any() else []
        if self._parts and (batches != "random" or min_distance_m > 0):
            raise UserError(
                "shares of sources in a batch need random batches without min_place_distance_m; set batches to random "
                "and min_place_distance_m to 0, or shares to null"
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
                    f"each batch has places of one {batches}, and no {batches} has places_per_batch = "
                    f"{places_per_batch} places: {sizes}; lower places_per_batch or choose random batches"
                )
        self._fill([pool.tolist() for pool in self._pools])  # fail now rather than in a later epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self._parts:
            return max(len(pool) // number for pool, number in self._parts)
        return sum(len(pool) // self.places_per_batch for pool in self._pools)

    def __iter__(self) -> Iterator[PlaceBatch]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.epoch])
        for places in self._batches(rng):
            images: list[int] = []
            labels: list[int] = []
            for place in places:
                members = self.places.members[place]
                chosen = (
                    rng.choice(members, self.images_per_place, replace=False)
                    if settings.sample_images == "random"
                    else members[: self.images_per_place]
                )
                images += chosen.tolist()
                labels += [int(place)] * self.images_per_place
            yield PlaceBatch(images, labels, rng.integers(0, NUM_DRAWS, (len(images), settings.augment_ops)))

    def _batches(self, rng: np.random.Generator) -> list[list[int]]:
        """Return the place numbers of each batch; another order is tried if one leaves a batch unfilled."""
        if self._parts:
            return self._shared(rng)
        settings, orders = self.settings, self._orders(rng)
        groups: list[list[int]] = []
        if settings.batches == "similar":
            assert self.describe is not None, "a model finds similar places"
            shown = [int(rng.choice(members)) for members in self.places.members]
            groups = similar_groups(self.describe(shown), settings.similar_places, orders[0])
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
        if settings.batches in ("city", "group") and settings.shuffle_places:
            batches = [batches[k] for k in rng.permutation(len(batches))]
        return batches

    def _shared(self, rng: np.random.Generator) -> list[list[int]]:
        """Return batches in which each source has its share; a source that is exhausted starts again."""
        of_sources = []
        for pool, number in self._parts:
            needed = len(self) * number
            rounds = [self._ordered(pool, rng) for _ in range(-(-needed // len(pool)))]
            of_sources.append(np.concatenate(rounds)[:needed].reshape(len(self), number))
        return [[int(place) for part in batch for place in part] for batch in zip(*of_sources, strict=True)]

    def _orders(self, rng: np.random.Generator) -> list[list[int]]:
        return [self._ordered(pool, rng).tolist() for pool in self._pools]

    def _ordered(self, pool: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.permutation(pool) if self.settings.shuffle_places else pool

    def _fill(self, orders: list[list[int]]) -> list[list[int]]:
        size = self.places_per_batch
        return [batch for order in orders for batch in fill_batches(order, len(order) // size, size, self._near)]


def parts_of_batch(places: Places, places_per_batch: int) -> list[tuple[NDArray[np.int64], int]]:
    """Return the places of each source, and how many of them a batch has: their shares, rounded to whole places.

    Raises:
        UserError: if a source has fewer places than that, or its share is less than one place.
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
                f"{name} has {len(pool)} places, and its share of a batch is {number} of {places_per_batch}; change "
                "shares or places_per_batch"
            )
    return list(zip(pools, numbers, strict=True))


def near_places(places: Places, distance_m: float) -> list[frozenset[int]]:
    """Return the other places that are nearer than a distance to each place, by the mean coordinates of their images.

    Raises:
        UserError: if a place has no coordinates.
    """
    unknown = int((~places.centres.known).sum())
    if unknown:
        raise UserError(
            f"min_place_distance_m is {distance_m}, but {unknown} of {len(places)} training places have no "
            "coordinates; set it to 0, or give their images utm_east and utm_north"
        )
    within = near(places.centres, places.centres, np.nextafter(distance_m, 0))
    return [frozenset(others.tolist()) - {own} for own, others in enumerate(within)]


def fill_batches(order: Sequence[int], num: int, size: int, near: Sequence[frozenset[int]]) -> list[list[int]]:
    """Put each place into the first batch that has room and no place near it.

    Args:
        order: Place numbers, each once.
        num, size: Number and size of the batches.
        near: For each place, the places that it must not share a batch with; empty if there is no such restriction.

    Returns:
        ``num`` batches of ``size`` different places. A place is in two batches only if one could not be filled
        otherwise.

    Raises:
        Unfilled: if a batch cannot be filled.
    """
    if not near:
        return [list(order[k * size : (k + 1) * size]) for k in range(num)]
    batches: list[list[int]] = [[] for _ in range(num)]
    refused: list[set[int]] = [set() for _ in range(num)]  # places in the batch, and those near to them

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
                f"min_place_distance_m is too large: no other place is far enough from all {len(batches[k])} places of "
                f"a batch, and places_per_batch is {size}; lower one of the two"
            )
    return batches


def similar_groups(descriptors: NDArray[np.float32], size: int, order: Sequence[int]) -> list[list[int]]:
    """Divide places into groups of up to ``size``: the next ungrouped place, with its nearest ungrouped places.

    Args:
        descriptors: Descriptors ``(number of places, D)``, rows of unit norm.
        size: Size of a group.
        order: Order of the places.

    Returns:
        The groups; each place of ``order`` is in one of them.
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
