"""Run the experiments of a sweep with DVC's queue, on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from vpr.config.errors import UserError
from vpr.experiments.sweep import DONE, DVC, Experiment, dvc, finished, why_failed

POLL_S = 3.0


def queued() -> tuple[dict[str, str], bool]:
    """Return the state of each task in DVC's queue by the experiment's name, and whether a worker is active.

    States are Queued, Running, Success and Failed. After a kill, a task can be Running without a worker.
    """
    states, table = {}, dvc("queue", "status")
    for line in table.splitlines():
        # The columns are task, name, created and state; the name can be missing.
        match = re.match(r"^[0-9a-f]{7}\s+(\S+)\s.*\b(Queued|Running|Success|Failed)\s*$", line)
        if match:
            states[match[1]] = match[2]
    return states, not re.search(r"Worker status: 0 active, 0 idle", table)


def _log(name: str) -> str:
    try:
        return dvc("queue", "logs", name)
    except UserError:
        return "no log"


def run_in_queue(todo: Sequence[Experiment], jobs: int = 1) -> Iterator[tuple[str, str]]:
    """Queue experiments that are not queued yet, and yield name and outcome of each as it ends.

    Args:
        todo: Experiments to run.
        jobs: Number of experiments to run side by side.
    """
    states, working = queued()
    for experiment in todo:
        state = states.get(experiment.name)
        if state == "Running" and not working:
            dvc("queue", "kill", "--force", experiment.name)
        if state == "Failed" or (state == "Running" and not working):
            dvc("queue", "remove", experiment.name)
            del states[experiment.name]
    for number, experiment in enumerate(todo, 1):
        if states.get(experiment.name) not in ("Queued", "Running"):
            dvc("exp", "run", "--queue", *experiment.settings)
        print(f"queued {number}/{len(todo)} {experiment.name}", flush=True)
    try:
        # Workers inherit stdout; with a pipe, its reader would wait until they end.
        nothing = subprocess.DEVNULL
        start = [*DVC, "queue", "start", "--jobs", str(jobs)]
        env = {**threads_of_each(jobs), **os.environ}
        subprocess.run(start, stdin=nothing, stdout=nothing, stderr=nothing, check=True, env=env)
        left = {experiment.name for experiment in todo}
        while left:
            time.sleep(POLL_S)
            (states, _), done = queued(), finished()
            for name in sorted(left):
                state = states.get(name)
                if name in done or state == "Success":
                    how = DONE
                elif state == "Failed":
                    how = f"failed: {why_failed(_log(name))}"
                elif state is None:
                    how = DONE if name in finished() else "failed: DVC's queue lost it; run the sweep again"
                else:
                    continue
                left.discard(name)
                yield name, how
    except KeyboardInterrupt:
        print("stopping; run the same command to continue", file=sys.stderr)
        dvc("queue", "stop", "--kill")
        raise


def threads_of_each(jobs: int) -> dict[str, str]:
    """Return variables with which experiments that run side by side share the cores instead of competing for them."""
    return {} if jobs == 1 else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
