"""Subtract the mean descriptor from the queries and from the database of a set.

Photos taken on the same night share a look that says nothing about the place. Schubert et al., "Unsupervised Learning
Methods for Visual Place Recognition in Discretely and Continuously Changing Environments", ICRA 2020,
https://arxiv.org/abs/2001.08960, remove it by subtracting the mean of the database from the database, and the mean of
the queries from the queries.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr.descriptors.described_set import DescribedSet


def load_set(folder: Path, centre: bool) -> DescribedSet:
    """Read a set from disk, and centre it if ``centre`` is true."""
    described = DescribedSet.load(folder)
    return centred(described) if centre else described


def centred(described: DescribedSet) -> DescribedSet:
    """Return the set with centred database and queries; the descriptors are in memory."""
    database, queries = described.database, described.queries
    return replace(
        described,
        database=replace(database, descriptors=without_mean(database.descriptors)),
        queries=replace(queries, descriptors=without_mean(queries.descriptors)),
    )


def without_mean(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the mean from descriptors ``(number, D)`` and restore their unit norm; the mean itself becomes zero."""
    descriptors = np.asarray(descriptors)
    if not len(descriptors):
        return descriptors
    offset = descriptors - descriptors.mean(axis=0, dtype=np.float64).astype(descriptors.dtype)
    norm = np.linalg.norm(offset, axis=1, keepdims=True)
    return np.divide(offset, norm, out=np.zeros_like(offset), where=norm > 0)
