"""``vpr sweep``: run a grid of experiments."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vpr.commands.arguments import Commands, positive
from vpr.config.errors import UserError

if TYPE_CHECKING:
    from vpr.experiments.sweep import Experiment


def add_commands(commands: Commands) -> None:
    """Add the command of this file."""
    one = commands.add("sweep", sweep, "run a grid of experiments, and continue an interrupted one", True)
    one.add_argument("settings", nargs="*", metavar="KEY=VALUE,VALUE", help="keys of params.yaml and values to try")
    one.add_argument("--paper", action="store_true", help="run the rows of sweeps/paper.csv")
    one.add_argument("--jobs", type=positive(int), help="experiments at a time; by default 1, on a cluster all")
    one.add_argument("--launcher", choices=("slurm", "local"), help="run jobs of submitit instead of DVC's queue")
    one.add_argument(
        "--job", action="append", default=[], metavar="KEY=VALUE", help="setting of the jobs, such as timeout_min=240"
    )
    one.add_argument("--share", default="", metavar="REMOTE", help="git remote to share finished experiments through")
    one.add_argument("--part", default="1/1", metavar="I/N", help="run only the part of the I-th of N machines")
    one.add_argument("--dry-run", action="store_true", help="print the experiments without running them")


def sweep(args: argparse.Namespace) -> int:
    """Run a grid of experiments, or the paper's, with DVC's queue or as jobs."""
    from tabulate import tabulate

    from vpr.config.params import Params
    from vpr.experiments import dvc_queue, launcher, paper
    from vpr.experiments import sweep as sweeping
    from vpr.experiments.store import SWEEP_VARIABLE

    sweeping.check_settings(args.settings, Params.read())
    points = sweeping.grid(args.settings)
    if args.paper:
        reported = paper.read_paper()
        points = [[*paper.paper_overrides(row), *point] for row in reported for point in points]
    elif not args.settings:
        raise UserError("name what to vary, such as agg=avg,gem loss=NTXentLoss,MultiSimilarityLoss, or use --paper")
    baseline = sweeping.git("rev-parse", "HEAD")
    wanted = sweeping.share_of_the_work(sweeping.experiments(points, baseline), args.part)
    if args.dry_run:
        print(tabulate([[e.name, " ".join(e.overrides)] for e in wanted], headers=["name", "changes"]))
        return 0
    changed = sweeping.git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock", ":!metrics")
    if changed:
        raise UserError(f"the queue runs only committed files; commit or stash {changed.split()[1::2]}")
    jobs = args.jobs or (None if args.launcher == "slurm" else 1)

    def run(todo: Sequence[Experiment]) -> Iterator[tuple[str, str]]:
        if args.launcher:
            return launcher.run_as_jobs(todo, args.launcher, jobs, args.job)
        return dvc_queue.run_in_queue(todo, jobs or 1)

    os.environ[SWEEP_VARIABLE] = sweeping.sweep_name(wanted, baseline)
    outcome = sweeping.run_sweep(wanted, run, args.share)
    failed = {name: why for name, why in outcome.items() if why != "done"}
    print(f"\n{len(outcome) - len(failed)} done, {len(failed)} failed")
    for name, why in failed.items():
        print(f"  {name}: {why}")
    print("vpr compare shows the finished ones, and dvc exp show all of them")
    return int(bool(failed))
