"""Many experiments by DVC's queue, named by what they change, so that an interrupted sweep continues.

A sweep with the same parameters, code and commit is the same sweep: finished experiments are not queued again, and what
DVC's cache knows is not trained.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from vpr.config.errors import UserError
from vpr.config.params import COMPONENTS, PARAMS_FILE, load_eval_sets, read_params
from vpr.training.configuration import flat

POLL_S = 3.0
DVC = (sys.executable, "-m", "dvc")
CHOICES = ("backbone", "agg", "loss", "miner")
SHOWN_LINES = 4  # of a failed experiment's log


@dataclass(frozen=True)
class Experiment:
    """One point of a sweep: what it changes in params.yaml, and its name in DVC."""

    name: str
    overrides: tuple[str, ...]


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


def finished() -> set[str]:
    """Names of the experiments on this commit that came to their end."""
    return set(dvc("exp", "list", "--name-only").split())


def queued() -> tuple[dict[str, str], bool]:
    """State of each task in DVC's queue by the experiment's name, and whether a worker is at work.

    States are Queued, Running, Success and Failed; a task can be Running without a worker, after a kill.
    """
    states, table = {}, dvc("queue", "status")
    for line in table.splitlines():
        # Task, name, created, state; the name can be missing.
        match = re.match(r"^[0-9a-f]{7}\s+(\S+)\s.*\b(Queued|Running|Success|Failed)\s*$", line)
        if match:
            states[match[1]] = match[2]
    return states, not re.search(r"Worker status: 0 active, 0 idle", table)


def why_failed(name: str) -> str:
    """The last lines of a failed experiment's log."""
    try:
        lines = [line for line in dvc("queue", "logs", name).splitlines() if line.strip() and "it/s" not in line]
    except UserError:
        return "no log"
    telling = [line for line in lines if not line.startswith((">", "Stage ", "Running stage", "To ", "Updating"))]
    return " ".join(dict.fromkeys(telling[-SHOWN_LINES:]))[:600]


def run_sweep(wanted: Sequence[Experiment], jobs: int = 1) -> dict[str, str]:
    """Queue what is not finished, work through the queue, and say how each ended.

    Returns:
        ``done`` or the reason of the failure, by name.
    """
    done, (states, working) = finished(), queued()
    for experiment in wanted:
        state = states.get(experiment.name)
        if state == "Running" and not working:
            dvc("queue", "kill", "--force", experiment.name)
        if state == "Failed" or (state == "Running" and not working):
            dvc("queue", "remove", experiment.name)
            del states[experiment.name]
    todo = [e for e in wanted if e.name not in done]
    print(f"{len(wanted)} experiments, {len(wanted) - len(todo)} of them finished before", flush=True)
    for number, experiment in enumerate(todo, 1):
        if states.get(experiment.name) not in ("Queued", "Running"):
            changes = [part for item in experiment.overrides for part in ("-S", item)]
            dvc("exp", "run", "--queue", "--name", experiment.name, *changes)
        print(f"queued {number}/{len(todo)} {experiment.name}", flush=True)
    outcome = dict.fromkeys((e.name for e in wanted if e.name in done), "done")
    try:
        if todo:
            # Workers inherit what they print to; a pipe would be waited for until they end.
            nothing = subprocess.DEVNULL
            started_queue = [*DVC, "queue", "start", "--jobs", str(jobs)]
            env = {**threads_of_each(jobs), **os.environ}
            subprocess.run(started_queue, stdin=nothing, stdout=nothing, stderr=nothing, check=True, env=env)
        started, shown = time.monotonic(), set(outcome)
        while len(outcome) < len(wanted):
            time.sleep(POLL_S)
            (states, _), done = queued(), finished()
            for experiment in todo:
                name = experiment.name
                if name in done or states.get(name) == "Success":
                    outcome[name] = "done"
                elif states.get(name) == "Failed":
                    outcome[name] = f"failed: {why_failed(name)}"
            for name in set(outcome) - shown:
                shown.add(name)
                rate = (time.monotonic() - started) / max(1, len(shown) - (len(wanted) - len(todo)))
                left = rate * (len(wanted) - len(outcome)) / 60
                print(f"{len(outcome)}/{len(wanted)} {name}: {outcome[name]} (about {left:.0f} min left)", flush=True)
            if not any(states.get(e.name) in ("Queued", "Running") for e in todo) and len(outcome) < len(wanted):
                lost = [e.name for e in wanted if e.name not in outcome and e.name not in finished()]
                outcome |= dict.fromkeys(lost, "failed: DVC's queue lost it; run the sweep again")
    except KeyboardInterrupt:
        print("stopping; the same command continues with what is left", file=sys.stderr)
        dvc("queue", "stop", "--kill")
        raise
    return outcome


def threads_of_each(jobs: int) -> dict[str, str]:
    """What lets experiments that run side by side share the cores: with all of them each, they wait for each other."""
    return {} if jobs == 1 else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}


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
