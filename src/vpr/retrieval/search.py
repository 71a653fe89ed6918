"""Exact nearest-neighbour search with FAISS."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vpr.config.errors import UserError


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
        ValueError: if the dimensions differ.
        UserError: if a descriptor is not finite, or a GPU is asked for and FAISS sees none.
    """
    if database.ndim != 2 or queries.ndim != 2 or database.shape[1] != queries.shape[1]:
        raise ValueError(f"database {database.shape} and queries {queries.shape} must both be (number, same dimension)")
    return search_in(exact_index(database, gpu), queries, k)


def exact_index(database: NDArray[np.float32], gpu: bool = False) -> Any:
    """A FAISS index of all descriptors, for ``search_in``; see ``search``."""
    if len(database) == 0:
        raise UserError("the database is empty; there is nothing to search")
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
        raise UserError(f"{name}: {int((~np.isfinite(descriptors)).any(axis=1).sum())} descriptors are not finite")


def require_faiss_gpu(wanted: bool) -> None:
    """Refuse a search on a GPU that FAISS doesn't see."""
    if wanted and (not hasattr(faiss, "get_num_gpus") or faiss.get_num_gpus() == 0):
        raise UserError("evaluate.faiss_gpu is true, but FAISS sees no GPU; set it to false")
