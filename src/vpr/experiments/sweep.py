"""Run many experiments, named by their settings, so that an interrupted sweep continues.

Repeating a sweep on the same commit runs only unfinished experiments, and trains only models that are not in DVC's
cache.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vpr.config.did_you_mean import did_you_mean
from vpr.config.errors import UserError
from vpr.config.params import COMPONENTS, Params

DONE = "done"
DVC = (sys.executable, "-m", "dvc")
SHOWN_LINES = 4  # last lines of a failed experiment's log


@dataclass(frozen=True)
class Experiment:
    """One point of a sweep: its name in DVC, and the settings of params.yaml that it changes."""

    name: str
    overrides: tuple[str, ...]

    @property
    def settings(self) -> list[str]:
        """Arguments of ``dvc exp run``."""
        return ["--name", self.name, *(part for item in self.overrides for part in ("-S", item))]


Launcher = Callable[[Sequence[Experiment]], Iterator[tuple[str, str]]]
"""Function that runs experiments, and yields name and outcome of each: ``DONE`` or why it failed."""


def grid(settings: Sequence[str]) -> list[list[str]]:
    """Return each combination of settings such as ``["agg=avg,gem", "loss=A"]`` as a list of ``key=value``.

    A comma within brackets is part of the value, as in ``eval_sets=[val,test]``.

    Raises:
        UserError: if a setting is not ``key=value,value``.
    """
    choices = []
    for setting in settings:
        key, sign, values = setting.partition("=")
        if not sign or not key or not values:
            raise UserError(f"{setting!r}: expected key=value,value, such as agg=avg,gem")
        choices.append([f"{key}={value}" for value in re.split(r",(?![^\[({]*[\])}])", values)])
    return [list(point) for point in itertools.product(*choices)]


def check_settings(settings: Sequence[str], params: Params) -> None:
    """Check the keys and chosen names of settings before anything is queued.

    Raises:
        UserError: for an unknown key or name, with a suggestion.
    """
    content = params.content
    tables = {**COMPONENTS, "dataset": "datasets"}
    for setting in (item for point in grid(settings) for item in point):
        key, _, value = setting.partition("=")
        if key.startswith(("+", "~")):  # Hydra's signs to add or remove a key
            continue
        if key in tables and value not in content[tables[key]]:
            raise UserError(f"{setting!r}: {tables[key]} has no {value!r}{_meant(value, content[tables[key]])}")
        block: Any = content
        for depth, part in enumerate(key.split(".")):
            if not isinstance(block, dict) or part not in block:
                where = ".".join(key.split(".")[:depth]) or str(params.path)
                raise UserError(f"{setting!r}: {where} has no key {part!r}{_meant(part, block)}")
            block = block[part]


def _meant(name: str, known: Any) -> str:
    names = [str(key) for key in known] if isinstance(known, dict) else []
    return did_you_mean(name, names) or (f"; choose from {', '.join(names)}" if names else "")


def experiments(points: Sequence[Sequence[str]], baseline: str) -> list[Experiment]:
    """Name each point of a sweep.

    Args:
        points: Settings of each point.
        baseline: Commit, which is part of the names.
    """
    found = []
    for point in points:
        digest = hashlib.sha256("\n".join([baseline, *sorted(point)]).encode()).hexdigest()[:7]
        values = "-".join(re.sub(r"[^A-Za-z0-9.]+", "", item.partition("=")[2])[:24] for item in point)
        name = f"{values[:80]}-{digest}".lstrip(".-")
        found.append(Experiment(name, tuple(point)))
    return found


def sweep_name(wanted: Sequence[Experiment], baseline: str) -> str:
    """Return a name for the experiments of a sweep, by which MLflow groups their runs."""
    keys = sorted({item.partition("=")[0] for experiment in wanted for item in experiment.overrides})
    return f"{'-'.join(keys)[:80]}-{baseline[:7]}"


def share_of_the_work(wanted: Sequence[Experiment], part: str) -> list[Experiment]:
    """Return the experiments of one of several machines, such as ``2/3`` for the second of three.

    Raises:
        UserError: if ``part`` has another form.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--part {part}: expected a share such as 2/3, for the second of three machines")
    return list(wanted[number - 1 :: count])


def dvc(*command: str) -> str:
    """Run DVC and return its output.

    Raises:
        UserError: with DVC's message, if it fails.
    """
    done = subprocess.run([*DVC, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise UserError(f"`dvc {' '.join(command[:3])}` failed: {' '.join(lines[-3:])}")
    return done.stdout


def git(*command: str) -> str:
    """Run git and return its output.

    Raises:
        UserError: with git's message, if it fails.
    """
    done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"`git {command[0]}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def finished(remote: str = "") -> set[str]:
    """Return the names of finished experiments of this commit, here or in a git remote."""
    return set(dvc("exp", "list", *([remote] if remote else []), "--name-only").split())


def why_failed(log: str) -> str:
    """Return the last informative lines of DVC's output."""
    lines = [line for line in log.splitlines() if line.strip() and "it/s" not in line]
    telling = [line for line in lines if not line.startswith((">", "Stage ", "Running stage", "To ", "Updating"))]
    return " ".join(dict.fromkeys(telling[-SHOWN_LINES:]))[:600]


def run_sweep(wanted: Sequence[Experiment], run: Launcher, share: str = "") -> dict[str, str]:
    """Run unfinished experiments, and return the outcome of each.

    Args:
        wanted: Experiments of the sweep.
        run: Function that runs experiments: DVC's queue, or a launcher of jobs.
        share: Git remote to pull finished experiments from and to push them to; empty for none.

    Returns:
        ``done`` or the reason of the failure, by name.
    """
    done = finished()
    if share:
        for experiment in wanted:
            if experiment.name in finished(share) - done:
                dvc("exp", "pull", share, experiment.name)
                done.add(experiment.name)
    outcome = {e.name: DONE for e in wanted if e.name in done}
    todo = [e for e in wanted if e.name not in done]
    print(f"{len(wanted)} experiments, {len(outcome)} of them already finished", flush=True)
    started, before = time.monotonic(), len(outcome)
    for name, how in run(todo) if todo else ():
        outcome[name] = _pushed(name, share) if share and how == DONE else how
        left = (time.monotonic() - started) / (len(outcome) - before) * (len(wanted) - len(outcome)) / 60
        print(f"{len(outcome)}/{len(wanted)} {name}: {outcome[name]} (about {left:.0f} min left)", flush=True)
    return outcome


def _pushed(name: str, share: str) -> str:
    try:
        dvc("exp", "push", share, name)
    except UserError as error:
        return f"failed to share: {error}; run the same command to push it again"
    return DONE
