"""Many experiments, named by what they change, so that an interrupted sweep continues.

A sweep with the same parameters, code and commit is the same sweep: finished experiments are not queued again, and what
DVC's cache knows is not trained.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from vpr.config.errors import UserError
from vpr.config.params import COMPONENTS, PARAMS_FILE, load_eval_sets, read_params
from vpr.training.configuration import flat

DONE = "done"
DVC = (sys.executable, "-m", "dvc")
CHOICES = ("backbone", "agg", "loss", "miner")
SHOWN_LINES = 4  # of a failed experiment's log


@dataclass(frozen=True)
class Experiment:
    """One point of a sweep: what it changes in params.yaml, and its name in DVC."""

    name: str
    overrides: tuple[str, ...]

    @property
    def settings(self) -> list[str]:
        """The arguments of ``dvc exp run``."""
        return ["--name", self.name, *(part for item in self.overrides for part in ("-S", item))]


Launcher = Callable[[Sequence[Experiment]], Iterator[tuple[str, str]]]
"""Runs experiments, and yields the name of each and how it ended: ``DONE`` or why it failed."""


def grid(settings: Sequence[str]) -> list[list[str]]:
    """``["agg=avg,gem", "loss=A"]`` -> each combination as a list of ``key=value``.

    A comma within brackets is part of the value: ``eval_sets=[val,test]`` is one.

    Raises:
        UserError: for what is not ``key=value,value``.
    """
    choices = []
    for setting in settings:
        key, sign, values = setting.partition("=")
        if not sign or not key or not values:
            raise UserError(f"{setting!r}: expected key=value,value, such as agg=avg,gem")
        choices.append([f"{key}={value}" for value in re.split(r",(?![^\[({]*[\])}])", values)])
    return [list(point) for point in itertools.product(*choices)]


def check_settings(settings: Sequence[str], path: Path = PARAMS_FILE) -> None:
    """Refuse a key that ``params.yaml`` has not, and a name that is not to be chosen, before anything is queued.

    Raises:
        UserError: with what was probably meant.
    """
    content = read_params(path)
    tables = {**COMPONENTS, "dataset": "datasets"}
    for setting in (item for point in grid(settings) for item in point):
        key, _, value = setting.partition("=")
        if key.startswith(("+", "~")):  # Hydra's signs for a key that comes or goes
            continue
        if key in tables and value not in content[tables[key]]:
            raise UserError(f"{setting!r}: {tables[key]} has no {value!r}{_meant(value, content[tables[key]])}")
        block: Any = content
        for depth, part in enumerate(key.split(".")):
            if not isinstance(block, dict) or part not in block:
                where = ".".join(key.split(".")[:depth]) or str(path)
                raise UserError(f"{setting!r}: {where} has no key {part!r}{_meant(part, block)}")
            block = block[part]


def _meant(name: str, known: Any) -> str:
    names = [str(key) for key in known] if isinstance(known, dict) else []
    similar = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {similar[0]!r}?" if similar else f"; choose from {', '.join(names)}" if names else ""


def experiments(points: Sequence[Sequence[str]], baseline: str) -> list[Experiment]:
    """Name each point.

    Args:
        baseline: what else decides the result: the commit.
    """
    found = []
    for point in points:
        digest = hashlib.sha256("\n".join([baseline, *sorted(point)]).encode()).hexdigest()[:7]
        values = "-".join(re.sub(r"[^A-Za-z0-9.]+", "", item.partition("=")[2])[:24] for item in point)
        name = f"{values[:80]}-{digest}".lstrip(".-")
        found.append(Experiment(name, tuple(point)))
    return found


def share_of_the_work(wanted: Sequence[Experiment], part: str) -> list[Experiment]:
    """``2/3``: the second of three machines takes every third experiment, beginning with the second.

    Raises:
        UserError: for what is not such a share.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--part {part}: expected such as 2/3, for the second of three machines")
    return list(wanted[number - 1 :: count])


def dvc(*command: str) -> str:
    """Run DVC and return what it printed.

    Raises:
        UserError: with DVC's message, if it fails.
    """
    done = subprocess.run([*DVC, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise UserError(f"`dvc {' '.join(command[:3])}` failed: {' '.join(lines[-3:])}")
    return done.stdout


def git(*command: str) -> str:
    """Run git and return what it printed.

    Raises:
        UserError: with git's message, if it fails.
    """
    done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"`git {command[0]}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def finished(remote: str = "") -> set[str]:
    """Names of the experiments on this commit that came to their end, here or in a git remote."""
    return set(dvc("exp", "list", *([remote] if remote else []), "--name-only").split())


def why_failed(log: str) -> str:
    """The last telling lines of what DVC printed."""
    lines = [line for line in log.splitlines() if line.strip() and "it/s" not in line]
    telling = [line for line in lines if not line.startswith((">", "Stage ", "Running stage", "To ", "Updating"))]
    return " ".join(dict.fromkeys(telling[-SHOWN_LINES:]))[:600]


def run_sweep(wanted: Sequence[Experiment], run: Launcher, share: str = "") -> dict[str, str]:
    """Run what is not finished, and say how each experiment ended.

    Args:
        run: DVC's queue, or a launcher of jobs.
        share: a git remote. What others have finished and pushed to it is pulled, and what ends here is pushed to it.

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
    print(f"{len(wanted)} experiments, {len(outcome)} of them finished before", flush=True)
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
        return f"failed to share: {error}; the same command pushes it again"
    return DONE


def experiment_table() -> str:
    """DVC's experiments with the components, the parameters that vary and the recalls.

    The best on the first of ``eval_sets`` is first.
    """
    rows = []
    for baseline in json.loads(dvc("exp", "show", "--json")):
        rev = baseline["rev"]
        rows.append((baseline.get("name") or (rev if rev == "workspace" else rev[:7]), "", baseline["data"]))
        for experiment in baseline.get("experiments") or []:
            state = (experiment.get("executor") or {}).get("state") or ""
            rows.append((experiment["revs"][0]["name"], state, experiment["revs"][0]["data"]))
    params = [flat((data or {}).get("params", {}).get("params.yaml", {}).get("data", {})) for _, _, data in rows]
    varying = sorted({k for p in params for k in p if len({str(q.get(k)) for q in params}) > 1} - set(CHOICES))
    lines = []
    for (name, state, data), values in zip(rows, params, strict=True):
        line = {"experiment": name, "state": state, **{k: values.get(k, "") for k in (*CHOICES, *varying)}}
        for path, found in ((data or {}).get("metrics") or {}).items():
            metrics = found.get("data", {})
            # What has not ended shows the numbers of the commit it began from.
            if "/recalls/" in path and state in ("", "success"):
                set_name = path.rpartition("/")[2].removesuffix(".json")
                line |= {
                    f"{set_name} R@{n}": f"{100 * metrics[f'recall_at_{n}']:.1f}"
                    for n in (1, 5)
                    if f"recall_at_{n}" in metrics
                }
        lines.append(line)
    found = {k for line in lines for k in line if k.endswith((" R@1", " R@5"))}
    first_sets = [f"{name} R@{n}" for name in load_eval_sets() for n in (1, 5)]
    recalls = [k for k in dict.fromkeys([*first_sets, *sorted(found)]) if k in found]
    header = ["experiment", *(["state"] if any(line["state"] for line in lines) else []), *CHOICES, *varying, *recalls]
    first = recalls[0] if recalls else ""
    lines.sort(key=lambda line: -float(line.get(first) or -1))
    return tabulate([[line.get(k, "") for k in header] for line in lines], headers=header, disable_numparse=True)
