"""Descriptors of a set without what all its queries, or all its database images, have in common.

Photos of one night share much that photos of one day do not, and none of it tells places apart. Schubert et al.,
"Unsupervised Learning Methods for Visual Place Recognition in Discretely and Continuously Changing Environments", ICRA
2020, https://arxiv.org/abs/2001.08960, subtract the mean of the database from the database, and that of the queries
from the queries.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr.data.described_set import DescribedSet


def loaded(folder: Path, centre: bool) -> DescribedSet:
    """A set from the disk, ``centred`` if asked for."""
    described = DescribedSet.load(folder)
    return centred(described) if centre else described


def centred(described: DescribedSet) -> DescribedSet:
    """The same set, its database and its queries each less their mean, with descriptors in memory."""
    database, queries = described.database, described.queries
    return replace(
        described,
        database=replace(database, descriptors=without_mean(database.descriptors)),
        queries=replace(queries, descriptors=without_mean(queries.descriptors)),
    )


def without_mean(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Descriptors ``(number, D)`` less their mean, of unit norm again; one that equals the mean becomes zero."""
    descriptors = np.asarray(descriptors)
    if not len(descriptors):
        return descriptors
    offset = descriptors - descriptors.mean(axis=0, dtype=np.float64).astype(descriptors.dtype)
    norm = np.linalg.norm(offset, axis=1, keepdims=True)
    return np.divide(offset, norm, out=np.zeros_like(offset), where=norm > 0)
