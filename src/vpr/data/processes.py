"""Run a function on many jobs in several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any


def in_processes(work: Callable[[Any], Any], jobs: Sequence[Any], num_workers: int | None) -> Iterator[Any]:
    """Yield the result of each job, in order. A single job runs in this process.

    Args:
        work: Function at the top level of a module, because processes receive it by its name.
        jobs: Argument of the function for each job.
        num_workers: Number of processes; ``None`` for one per core.
    """
    workers = min(num_workers or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, jobs)
