"""Ray, for work on more than one machine: https://docs.ray.io, the package ``ray`` (`make setup-scale`).

``RAY_ADDRESS`` names a cluster; without it Ray runs on this machine alone. All machines see the project's folder and
the images under the same paths.
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

_IN_FLIGHT = 4  # jobs for each core that wait or run


def require_engine(engine: str) -> str:
    """The engine, if it is installed; a validator of settings.

    Raises:
        ValueError: with what to do.
    """
    if engine == "ray" and find_spec("ray") is None:
        raise ValueError("ray needs the package ray, which is not installed: run `make setup-scale`, or choose local")
    return engine


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """The module ``ray``, connected.

    Raises:
        UserError: if the cluster can't be reached, or what our code raised in a task.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # an engine that is chosen alone; it takes a while to import

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
        ours = re.search(r"^vpr\.config\.errors\.UserError: (.*)", str(error), re.MULTILINE)  # Ray packs it as text
        if ours is None:
            raise
        raise UserError(ours[1]) from None
    finally:
        if began:
            ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuse an address where nobody listens, which Ray itself would go on asking for minutes.

    Args:
        address: such as ``ray-head:6379``; other forms are left to Ray.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"RAY_ADDRESS is {address!r}, where no Ray answers: {error}") from None


def in_ray_tasks(work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
    """The result of each job, in order, by tasks of a cluster; those of a machine that is lost run again elsewhere."""
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
