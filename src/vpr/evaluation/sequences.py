"""Locate the queries of a drive together, taking into account the queries before and after each one.

The drive is a hidden Markov model: the state is the database image nearest to the camera, and an observation is a
query's descriptor. The camera moves on to a database image near the last one or, rarely, jumps to any image. The
forward-backward algorithm gives the probability of each database image given the whole drive (Rabiner, "A Tutorial on
Hidden Markov Models", 1989). Xu et al., "Probabilistic Visual Place Recognition for Hierarchical Localization", RA-L
2021, https://arxiv.org/abs/2105.03091, among others, use this for place recognition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.data.natural_order import natural_key
from vpr.data.positions import Positions, near
from vpr.retrieval.params import SequenceParams

Numbers = NDArray[np.float64]


def drives(rows: pd.DataFrame) -> list[NDArray[np.int64]]:
    """Return the row numbers of each drive, ordered by ``sequence``, then ``timestamp``, then the image's name."""
    if "sequence" not in rows:
        return []
    table = pd.DataFrame(
        {
            "sequence": rows["sequence"].fillna("").astype(str),
            "timestamp": rows["timestamp"].fillna("").astype(str),
            "name": [natural_key(str(image)) for image in rows["image"]],
        }
    ).reset_index(drop=True)
    table = table[table["sequence"] != ""].sort_values(["sequence", "timestamp", "name"], kind="stable")
    return [group.index.to_numpy(dtype=np.int64) for _, group in table.groupby("sequence", sort=True)]


def transitions(database: pd.DataFrame, params: SequenceParams) -> scipy.sparse.csr_array:
    """Return the probabilities ``(num_database, num_database)`` of moving between database images without a jump.

    All images within reach are equally likely, including the image itself: a camera may stand still or turn around.

    Raises:
        UserError: if the database has neither an order nor positions.
    """
    pairs: list[NDArray[np.int64]] = []
    if params.step_m is not None:
        positions = Positions.of(database)
        if not positions.known.all():
            raise UserError("evaluate.sequence.step_m needs positions of all database images; set it to null")
        reached = near(positions, positions, params.step_m)
        pairs = [np.stack([np.full(len(row), k), row]) for k, row in enumerate(reached)]
    else:
        for drive in drives(database):
            for step in range(-params.reach, params.reach + 1):
                start, stop = max(0, -step), min(len(drive), len(drive) - step)
                if start < stop:
                    pairs.append(np.stack([drive[start:stop], drive[start + step : stop + step]]))
    if not pairs:
        raise UserError(
            "evaluate.sequence needs an ordered database, with a column sequence, or a step_m and positions; add them, "
            "or set evaluate.sequence to null"
        )
    rows, columns = np.concatenate(pairs, axis=1)
    found = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(database),) * 2)
    total = np.maximum(found.sum(axis=1), 1)
    return scipy.sparse.csr_array(found.multiply(1 / total[:, None]))


def smoothed(similarities: Numbers, go_on: scipy.sparse.csr_array, params: SequenceParams) -> Numbers:
    """Return the probability of each database image for each query of a drive, ``(T, num_database)``.

    Args:
        similarities: Similarities of the descriptors, ``(T, num_database)``, in the order of the drive.
        go_on: Result of ``transitions``.
        params: Settings of the model.
    """
    seen = np.exp((similarities - similarities.max(axis=1, keepdims=True)) / params.temperature)
    number = similarities.shape[1]
    back = go_on.T.tocsr()
    forward, backward = np.empty_like(seen), np.empty_like(seen)
    state = np.full(number, 1 / number)
    for t, likelihood in enumerate(seen):
        if t:
            state = (1 - params.jump) * (back @ state) + params.jump / number
        state = state * likelihood
        state /= state.sum()
        forward[t] = state
    later = np.ones(number)
    for t in range(len(seen) - 1, -1, -1):
        backward[t] = later
        ahead = later * seen[t]
        later = (1 - params.jump) * (go_on @ ahead) + params.jump * ahead.mean()
        later /= later.max()
    both = forward * backward
    return both / both.sum(axis=1, keepdims=True)


def rank_drives(
    database: pd.DataFrame,
    queries: pd.DataFrame,
    database_descriptors: NDArray[np.float32],
    query_descriptors: NDArray[np.float32],
    k: int,
    params: SequenceParams,
) -> NDArray[np.int64]:
    """Return the ``k`` most probable database images of each query, ``(num_queries, k)``; -1 outside of drives.

    Raises:
        UserError: if the database has neither an order nor positions.
    """
    of_queries: Sequence[NDArray[np.int64]] = drives(queries)
    go_on = transitions(database, params)
    k = min(k, len(database))
    ranking = np.full((len(queries), k), -1, dtype=np.int64)
    whole = np.asarray(database_descriptors, dtype=np.float32)
    for drive in of_queries:
        similarities = np.asarray(query_descriptors[drive], dtype=np.float32) @ whole.T
        probability = smoothed(similarities.astype(np.float64), go_on, params)
        ranking[drive] = np.argsort(-probability, axis=1, kind="stable")[:, :k]
    return ranking
