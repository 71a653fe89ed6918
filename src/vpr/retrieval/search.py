"""Nearest-neighbour search with FAISS: exact, in blocks of bounded memory, or with an approximate index."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.retrieval.params import EvaluateParams

_BLOCK_BYTES = 2**28  # size of the part of the database that is searched at a time
_REFINED = 100  # candidates that an index with `RFlat` compares again by their whole descriptors


def search(
    database: NDArray[Any], queries: NDArray[np.float32], k: int, gpu: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find exact nearest neighbours by L2 distance, in float32.

    The database is read block by block, so it may be a memory map that is larger than memory.

    Args:
        database: Descriptors ``(num_database, D)``.
        queries: Descriptors ``(num_queries, D)``.
        k: Number of neighbours to find; at most ``num_database`` are returned.
        gpu: Search on the first GPU.

    Returns:
        The ranking ``(num_queries, k)``, nearest first, and the L2 distances in the same shape.

    Raises:
        ValueError: if the dimensions differ.
        UserError: if a descriptor is not finite, or a GPU is requested and FAISS sees none.
    """
    if database.ndim != 2 or queries.ndim != 2 or database.shape[1] != queries.shape[1]:
        raise ValueError(f"database {database.shape} and queries {queries.shape} must both be (number, same dimension)")
    _require_some(database)
    _require_finite("queries", queries)
    require_faiss_gpu(gpu)
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    k = min(k, len(database))
    compare: Any = partial(faiss.knn_gpu, faiss.StandardGpuResources()) if gpu else faiss.knn
    nearest: Any = faiss.ResultHeap(len(queries), k)
    rows = max(1, _BLOCK_BYTES // (4 * database.shape[1]))
    for start in range(0, len(database), rows):
        block = np.ascontiguousarray(database[start : start + rows], dtype=np.float32)
        _require_finite("database", block)
        distances, found = compare(queries, block, min(k, len(block)))
        nearest.add_result(distances, found + start)
    nearest.finalize()
    return nearest.I, np.sqrt(np.maximum(nearest.D, 0))


def similarity(distances: NDArray[Any]) -> NDArray[np.float64]:
    """Convert L2 distances of descriptors of unit norm to cosine similarities."""
    return 1 - distances.astype(np.float64) ** 2 / 2


def exact_index(database: NDArray[np.float32]) -> Any:
    """Build an exact FAISS index of all descriptors, for ``search_in``."""
    _require_some(database)
    _require_finite("database", database)
    index: Any = faiss.IndexFlatL2(database.shape[1])
    index.add(np.ascontiguousarray(database, dtype=np.float32))
    return index


def empty_index(factory: str, dim: int) -> Any:
    """Create an untrained FAISS index from its factory string.

    An index with ``,RFlat`` compares its first 100 candidates again by their whole descriptors.

    Raises:
        UserError: if FAISS has no such index for descriptors of ``dim`` numbers.
    """
    try:
        return faiss.index_factory(dim, factory, faiss.METRIC_L2)
    except RuntimeError as error:
        raise UserError(_refused(factory, f"descriptors of {dim}", error)) from None


def approximate_index(factory: str, database: NDArray[np.float32]) -> Any:
    """Build an index from its factory string, train it on all descriptors and add them, for ``search_in``.

    Raises:
        UserError: if FAISS has no such index for these descriptors, or they are too few to train it.
    """
    _require_some(database)
    _require_finite("database", database)
    index = empty_index(factory, database.shape[1])
    descriptors = np.ascontiguousarray(database, dtype=np.float32)
    try:
        index.train(descriptors)
        index.add(descriptors)
    except RuntimeError as error:
        raise UserError(_refused(factory, f"{len(database):,} descriptors", error)) from None
    return index


def search_in(index: Any, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Search an index; see ``search``.

    An approximate index may find fewer than ``k`` neighbours; the missing ones are -1 at infinite distance.
    """
    _require_finite("queries", queries)
    k = min(k, index.ntotal)
    if isinstance(index, faiss.IndexRefine):
        index.k_factor = max(1.0, _REFINED / k)
    squared, ranking = index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    return ranking, np.where(ranking < 0, np.inf, np.sqrt(np.maximum(squared, 0)))


def size_bytes(index: Any) -> int:
    """Return the size of an index on disk, in bytes."""
    written = 0

    def count(content: bytes) -> None:
        nonlocal written
        written += len(content)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))  # type: ignore[attr-defined]
    return written


def _refused(factory: str, descriptors: str, error: RuntimeError) -> str:
    reason = str(error).rpartition("Error: ")[2].split("\n")[0] or str(error)
    return (
        f"params.yaml: evaluate.index is {factory!r}, but FAISS cannot build such an index of {descriptors}: "
        f"{reason[:200]}; correct it, or set it to null"
    )


def _require_some(database: NDArray[Any]) -> None:
    if len(database) == 0:
        raise UserError("the database is empty; there is nothing to search")


def _require_finite(name: str, descriptors: NDArray[np.float32]) -> None:
    if not np.isfinite(descriptors).all():
        raise UserError(f"{name}: {int((~np.isfinite(descriptors)).any(axis=1).sum())} descriptors are not finite")


def check_search(params: EvaluateParams, dim: int) -> None:
    """Refuse settings that FAISS does not support for descriptors of ``dim`` numbers, before any long work."""
    require_faiss_gpu(params.faiss_gpu)
    if params.index is not None:
        empty_index(params.index, dim)


def check_database_size(factory: str | None, number: int, where: str) -> None:
    """Refuse an index with more lists than a database has images, which FAISS refuses after the training."""
    lists = max((int(found) for found in re.findall(r"IVF(\d+)", factory or "")), default=0)
    if lists > number:
        raise UserError(
            f"params.yaml: evaluate.index is {factory!r}, with {lists:,} lists, but {where} has {number:,} database "
            "images; lower the number after IVF, or set it to null"
        )


def require_faiss_gpu(wanted: bool) -> None:
    """Refuse a search on a GPU if FAISS sees none."""
    if wanted and (not hasattr(faiss, "get_num_gpus") or faiss.get_num_gpus() == 0):
        raise UserError("evaluate.faiss_gpu is true, but FAISS sees no GPU; set it to false")
