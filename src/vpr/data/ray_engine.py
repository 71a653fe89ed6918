"""Ray, for work on several machines: https://docs.ray.io. `make setup-scale` installs the package ``ray``.

``RAY_ADDRESS`` names a cluster; without it, Ray runs on this machine alone. All machines have to see the project's
folder and the images under the same paths.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import vpr
from vpr.config.errors import UserError

_IN_FLIGHT = 4  # waiting and running jobs per core


def require_engine(engine: str) -> str:
    """Return the engine if it is installed; used as a validator of settings.

    Raises:
        ValueError: if Ray is chosen and not installed.
    """
    if engine == "ray" and find_spec("ray") is None:
        raise ValueError("ray needs the package ray, which is not installed: run `make setup-scale`, or choose local")
    return engine


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """Connect to a cluster and yield the module ``ray``.

    Raises:
        UserError: if the cluster cannot be reached, or if a task raised a ``UserError``.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # optional, and slow to import

    source = str(Path(vpr.__file__).parents[1])
    began = not ray.is_initialized()
    if began:
        _require_answer(os.environ.get("RAY_ADDRESS", ""))
        ray.init(
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if "RAY_ADDRESS" not in os.environ else None,
            runtime_env={"env_vars": {"PYTHONPATH": source, "OMP_WAIT_POLICY": "PASSIVE"}},
        )
    try:
        yield ray
    except ray.exceptions.RayError as error:
        ours = re.search(
            r"^vpr\.config\.errors\.UserError: (.*)", str(error), re.MULTILINE
        )  # Ray passes errors on as text
        if ours is None:
            raise
        raise UserError(ours[1]) from None
    finally:
        if began:
            ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuse an address where nothing listens, which Ray itself would retry for minutes.

    Args:
        address: Address such as ``ray-head:6379``; other forms are left to Ray.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"RAY_ADDRESS is {address!r}, but no Ray cluster answers there: {error}") from None


def in_ray_tasks(work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
    """Yield the result of each job, in order, computed by a cluster. Jobs of a lost machine run again elsewhere."""
    with ray_cluster() as ray:
        task = ray.remote(max_retries=-1)(work)
        most = max(8, _IN_FLIGHT * int(ray.cluster_resources().get("CPU", 1)))
        waiting: list[Any] = []
        for job in jobs:
            if len(waiting) == most:
                yield ray.get(waiting.pop(0))
            waiting.append(task.remote(job))
        while waiting:
            yield ray.get(waiting.pop(0))
