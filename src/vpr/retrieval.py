"""Descriptors -> ranking -> recall@N. NumPy, SciPy's k-d tree and FAISS only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Positives = list[NDArray[np.int64]]


def search(
    database: NDArray[np.float32], queries: NDArray[np.float32], k: int, gpu: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Exact nearest neighbours by L2 distance, in float32.

    Args:
        database: ``(num_database, D)``.
        queries: ``(num_queries, D)``.
        k: neighbours to find; at most ``num_database`` come back.
        gpu: search on the first GPU.

    Returns:
        The ranking ``(num_queries, k)``, nearest first, and the L2 distances of the same shape.

    Raises:
        ValueError: if the dimensions differ, a descriptor is not finite, or a GPU is asked for and FAISS sees
            none.
    """
    if database.ndim != 2 or queries.ndim != 2 or database.shape[1] != queries.shape[1]:
        raise ValueError(f"database {database.shape} and queries {queries.shape} must both be (number, same dimension)")
    return search_in(exact_index(database, gpu), queries, k)


def exact_index(database: NDArray[np.float32], gpu: bool = False) -> Any:
    """A FAISS index of all descriptors, for ``search_in``; see ``search``."""
    if len(database) == 0:
        raise ValueError("the database is empty; there is nothing to search")
    _require_finite("database", database)
    index: Any = faiss.IndexFlatL2(database.shape[1])
    if gpu:
        require_faiss_gpu(True)
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    index.add(np.ascontiguousarray(database, dtype=np.float32))
    return index


def search_in(index: Any, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Search an ``exact_index``; see ``search``."""
    _require_finite("queries", queries)
    squared, ranking = index.search(np.ascontiguousarray(queries, dtype=np.float32), min(k, index.ntotal))
    return ranking, np.sqrt(np.maximum(squared, 0))


def _require_finite(name: str, descriptors: NDArray[np.float32]) -> None:
    if not np.isfinite(descriptors).all():
        raise ValueError(f"{name}: {int((~np.isfinite(descriptors)).any(axis=1).sum())} descriptors are not finite")


def require_faiss_gpu(wanted: bool) -> None:
    """Refuse a search on a GPU that FAISS doesn't see."""
    if wanted and (not hasattr(faiss, "get_num_gpus") or faiss.get_num_gpus() == 0):
        raise ValueError("evaluate.faiss_gpu is true, but FAISS sees no GPU; set it to false")


def positives_within(
    database_utm: NDArray[np.float64],
    query_utm: NDArray[np.float64],
    radius_m: float,
    database_zone: Sequence[str] | None = None,
    query_zone: Sequence[str] | None = None,
) -> Positives:
    """Database images within ``radius_m`` of each query, the radius included.

    Args:
        database_utm, query_utm: ``(number, 2)`` UTM east and north in metres.
        database_zone, query_zone: UTM zones such as ``32T``; number and hemisphere count, positions of
            different ones are never near each other.

    Returns:
        For each query the sorted database indices.
    """
    database_keys = grids(database_zone if database_zone is not None else [""] * len(database_utm))
    query_keys = grids(query_zone if query_zone is not None else [""] * len(query_utm))
    positives: Positives = [np.empty(0, dtype=np.int64) for _ in range(len(query_utm))]
    for zone in np.unique(query_keys):
        inside = np.flatnonzero(database_keys == zone)
        asked = np.flatnonzero(query_keys == zone)
        if len(inside) == 0:
            continue
        found = cKDTree(database_utm[inside]).query_ball_point(query_utm[asked], radius_m)
        for query, near in zip(asked, found, strict=True):
            positives[query] = np.sort(inside[np.asarray(near, dtype=np.int64)])
    return positives


def grids(zones: Sequence[str]) -> NDArray[np.str_]:
    """The coordinate grid of each UTM zone: its number and hemisphere, without the latitude band."""
    return np.array(
        [zone and zone.rstrip("CDEFGHJKLMNPQRSTUVWX") + ("N" if zone[-1] >= "N" else "S") for zone in zones]
    )


def positives_by_place(database_place: Sequence[str], query_place: Sequence[str]) -> Positives:
    """Database images of the same place as each query."""
    members: dict[str, list[int]] = {}
    for index, place in enumerate(database_place):
        members.setdefault(place, []).append(index)
    return [np.array(members.get(place, []), dtype=np.int64) for place in query_place]


def hits(ranking: NDArray[np.int64], positives: Sequence[Sequence[int]] | Positives) -> NDArray[np.bool_]:
    """Which predictions are positives, ``(num_queries, k)``."""
    if len(positives) != len(ranking):
        raise ValueError(f"{len(ranking)} queries were ranked, positives of {len(positives)} were given")
    return np.array([np.isin(row, np.asarray(near)) for row, near in zip(ranking, positives, strict=True)]).reshape(
        ranking.shape
    )


def recall_at(
    ranking: NDArray[np.int64], positives: Sequence[Sequence[int]] | Positives, ns: Sequence[int]
) -> dict[int, float]:
    """Share of queries, in [0, 1], with a positive among the first N predictions.

    A query without any positive counts as not found.

    Args:
        ranking: ``(num_queries, k)`` database indices, nearest first.
        positives: for each query its positives in the database.
        ns: the N of recall@N; where N exceeds ``k``, all ``k`` predictions count.
    """
    if len(ranking) == 0:
        raise ValueError("no queries; recall is not defined")
    found = hits(ranking, positives)
    return {n: float(found[:, :n].any(axis=1).mean()) for n in ns}
