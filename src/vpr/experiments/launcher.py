"""The experiments of a sweep as jobs: on a SLURM cluster, or side by side on this machine. submitit starts them.

Each job is ``dvc exp run --temp`` in the project's folder, which all nodes see.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vpr.config.errors import UserError
from vpr.experiments.dvc_queue import threads_of_each
from vpr.experiments.sweep import DONE, DVC, Experiment, why_failed

if TYPE_CHECKING:
    import submitit

FOLDER = Path(".dvc/tmp/sweep")
POLL_S = 3.0
DEFAULTS = {"timeout_min": 24 * 60}  # submitit's own is five minutes


def job_settings(settings: Sequence[str]) -> dict[str, Any]:
    """``["gpus_per_node=1", "slurm_partition=gpu"]`` -> what submitit takes.

    Raises:
        UserError: for what is not ``key=value``.
    """
    found = dict(DEFAULTS)
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key.isidentifier() or not value:
            raise UserError(f"--job {setting}: expected key=value, such as gpus_per_node=1 or slurm_partition=gpu")
        found[key] = yaml.safe_load(value)
    return found


def run_as_jobs(
    todo: Sequence[Experiment], launcher: str, jobs: int | None, settings: Sequence[str], folder: Path = FOLDER
) -> Iterator[tuple[str, str]]:
    """Submit each experiment, and yield it as it ends. What an earlier call has submitted is waited for.

    Args:
        launcher: ``slurm`` or ``local``.
        jobs: how many are submitted at once; ``None``: all of them.
        settings: ``key=value`` for submitit, such as ``timeout_min=240``, ``slurm_partition=gpu``.
        folder: for the jobs' logs and results; all nodes see it.

    Raises:
        UserError: where submitit is missing, or refuses a setting or a job.
    """
    if not importlib.util.find_spec("submitit"):
        raise UserError("--launcher needs submitit: make setup-scale")
    wanted = job_settings(settings)
    waiting = list(todo)
    running: dict[str, submitit.Job[str]] = {}
    try:
        while waiting or running:
            while waiting and (jobs is None or len(running) < jobs):
                experiment = waiting.pop(0)
                own = folder.absolute() / experiment.name
                running[experiment.name] = job = _submitted_before(own, launcher) or _submit(
                    experiment, own, launcher, wanted, threads_of_each(jobs or 1)
                )
                print(f"job {job.job_id}: {experiment.name}, log in {job.paths.stdout}", flush=True)
            time.sleep(POLL_S)
            for name, job in list(running.items()):
                if job.done():
                    del running[name]
                    yield name, _how_it_ended(job)
    except KeyboardInterrupt:
        print("stopping; the same command continues with what is left", file=sys.stderr)
        for job in running.values():
            job.cancel()
        raise


def _submit(
    experiment: Experiment, folder: Path, launcher: str, settings: dict[str, Any], env: dict[str, str]
) -> submitit.Job[str]:
    import submitit

    command = [*DVC, "--wait-for-lock", "exp", "run", "--temp", *experiment.settings]
    # On a cluster the node's own variables say which GPU is the job's.
    own_env = {**env, **os.environ} if launcher == "local" else None
    try:
        executor = submitit.AutoExecutor(folder, cluster=launcher)
        executor.update_parameters(name=experiment.name[:40], **settings)
        return executor.submit(submitit.helpers.CommandFunction(command, cwd=Path.cwd(), env=own_env))
    except (
        AssertionError, NameError, TypeError, ValueError, RuntimeError, OSError, submitit.core.utils.FailedJobError,
    ) as error:  # fmt: skip
        raise UserError(f"--launcher {launcher}: {error}") from None


def _submitted_before(folder: Path, launcher: str) -> submitit.Job[str] | None:
    """The job of an earlier call that SLURM still has; a process of this machine has ended with its sweep."""
    import submitit

    if launcher != "slurm":
        return None
    for file in sorted(folder.glob("*_submitted.pkl")):
        job = submitit.SlurmJob[str](folder, file.name.partition("_")[0])
        if not job.done(force_check=True):
            return job
    return None


def _how_it_ended(job: submitit.Job[str]) -> str:
    import submitit

    try:
        job.result()
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        log = (job.stdout() or "") + (job.stderr() or "")
        return f"failed: {why_failed(log) or error} (job {job.job_id}, {job.paths.stderr})"
    return DONE
