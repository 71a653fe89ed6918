"""Run the experiments of a sweep as jobs of submitit: on a SLURM cluster, or side by side on this machine.

Each job is ``dvc exp run --temp`` in the project's folder, which all nodes must share.
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
DEFAULTS = {"timeout_min": 24 * 60}  # submitit's default is five minutes


def job_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse settings such as ``["gpus_per_node=1", "slurm_partition=gpu"]`` for submitit.

    Raises:
        UserError: if a setting is not ``key=value``.
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
    """Submit each experiment, and yield name and outcome as it ends. Jobs of an earlier call are waited for.

    Args:
        todo: Experiments to run.
        launcher: ``slurm`` or ``local``.
        jobs: Number of jobs to submit at once; ``None`` for all of them.
        settings: Settings ``key=value`` for submitit, such as ``timeout_min=240`` or ``slurm_partition=gpu``.
        folder: Folder for logs and results, which all nodes must share.

    Raises:
        UserError: if submitit is not installed, or refuses a setting or a job.
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
        print("stopping; run the same command to continue", file=sys.stderr)
        for job in running.values():
            job.cancel()
        raise


def _submit(
    experiment: Experiment, folder: Path, launcher: str, settings: dict[str, Any], env: dict[str, str]
) -> submitit.Job[str]:
    import submitit

    command = [*DVC, "--wait-for-lock", "exp", "run", "--temp", *experiment.settings]
    # On a cluster, the node's own variables name the job's GPU.
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
    """Return the unfinished SLURM job of an earlier call. Local processes end with their sweep."""
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
