"""The same work on many pieces, by as many processes as there are cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any


def in_processes(work: Callable[[Any], Any], jobs: Sequence[Any], num_workers: int | None) -> Iterator[Any]:
    """The result of each job, in order; one that is alone is done in this process.

    Args:
        work: a function of a module, as it is sent by its name.
        num_workers: processes; ``None`` takes all cores.
    """
    workers = min(num_workers or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, jobs)
