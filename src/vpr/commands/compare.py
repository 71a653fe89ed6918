"""``vpr compare``, ``vpr env`` and ``vpr promote``: compare runs in MLflow, and choose the best."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vpr.commands.arguments import Commands
from vpr.config.errors import UserError

if TYPE_CHECKING:
    from vpr.experiments.runs import Run

RUN = "name of a run, its id, or the beginning of its id"


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    one = commands.add("compare", compare, "compare runs in MLflow; two of them also query by query", True)
    one.add_argument("runs", nargs="*", metavar="RUN", help=f"{RUN}; by default all runs")
    one.add_argument("--sort", help="metric to sort by, such as test/recall_at_1")
    one.add_argument("--format", choices=("table", "markdown", "csv"), default="table", help="format of the output")
    one.add_argument("--paper", action="store_true", help="also show the paper's recalls, and where settings differ")
    one.add_argument("--page", type=Path, help="write an HTML page with two runs side by side, query by query")

    one = commands.add("env", env, "compare the environment of a run with this one", True)
    one.add_argument("run", metavar="RUN", help=RUN)

    one = commands.add("promote", promote, "register a model that beats the current one by more than chance", True)
    one.add_argument("run", metavar="RUN", help=RUN)
    one.add_argument("--model-name", default="vpr", help="name of the registered model")
    one.add_argument("--alias", default="champion", help="alias of the best model")
    one.add_argument("--set", help="evaluation set to compare on; by default the run's validation set")
    one.add_argument("--significance", type=float, default=0.05, help="largest p-value that counts as more than chance")


def _runs() -> list[Run]:
    """Return the runs of the store, and print its address to stderr."""
    from vpr.experiments.runs import finished_runs
    from vpr.experiments.store import tracking_uri, without_passwords

    print(f"runs of {without_passwords(tracking_uri())}", file=sys.stderr)
    return finished_runs()


def compare(args: argparse.Namespace) -> int:
    """Print runs side by side; two of them also query by query."""
    from vpr.config.params import Params
    from vpr.experiments import comparison, paper
    from vpr.experiments.runs import find_run

    runs = _runs()
    if args.runs:
        runs = list({run.id: run for run in (find_run(wanted, runs) for wanted in args.runs)}.values())
    settings = paper.paper_settings(Params.read()) if args.paper else ()
    print(comparison.formatted(comparison.compare(runs, args.sort, settings), args.format))
    if args.runs and len(runs) == 2:
        _compare_two(runs[0], runs[1], args)
    elif args.page:
        raise UserError("--page needs exactly two runs")
    return 0


def _compare_two(first: Run, second: Run, args: argparse.Namespace) -> None:
    from vpr.evaluation.predictions import first_is_positive
    from vpr.experiments.paired_test import in_words, paired_test
    from vpr.experiments.runs import distinct_names, run_predictions

    output = sys.stdout if args.format == "table" else sys.stderr  # other formats are for programs
    sets = [name for name in first.sets() if name in second.sets()]
    if not sets:
        raise UserError(f"{first.name} and {second.name} have no evaluation set in common")
    print(file=output)
    for name in sets:
        one, two = (first_is_positive(run_predictions(run, name)) for run in (first, second))
        print(in_words(name, *distinct_names(first, second), paired_test(one, two)), file=output)
    if args.page:
        from vpr.config.params import Params
        from vpr.experiments.side_by_side import write_side_by_side
        from vpr.retrieval.params import EvaluateParams

        radius_m = Params.read().section(EvaluateParams).positive_radius_m
        write_side_by_side(first, second, sets, radius_m, args.page)
        print(f"\nquery by query: {args.page}", file=output)


def env(args: argparse.Namespace) -> int:
    """Print the differences between a run's environment and this one; return 1 if there are any."""
    from tabulate import tabulate

    from vpr.experiments.environment_differences import environment_differences
    from vpr.experiments.runs import find_run

    run = find_run(args.run, _runs())
    rows = environment_differences(run)
    if rows:
        print(tabulate(rows, headers=["", run.name, "now"], disable_numparse=True))
    else:
        print(f"{run.name}: the same commit, machine and versions as now")
    return int(bool(rows))


def promote(args: argparse.Namespace) -> int:
    """Register a run's model if it beats the holder of the alias by more than chance."""
    from vpr.evaluation.predictions import first_is_positive
    from vpr.experiments import promotion
    from vpr.experiments.paired_test import in_words, paired_test
    from vpr.experiments.runs import distinct_names, find_run, run_predictions

    run = find_run(args.run, _runs())
    name = args.set or run.params.get("train.val_set", "")
    if name not in run.sets():
        raise UserError(f"{run.name} has no recalls on {name!r}; choose --set from {', '.join(run.sets())}")

    def beats(holder: Run) -> str:
        one, two = (first_is_positive(run_predictions(each, name)) for each in (holder, run))
        test = paired_test(one, two)
        message = in_words(name, *distinct_names(holder, run), test, args.significance)
        if test.difference <= 0 or test.p_value >= args.significance:
            raise UserError(f"{holder.name} keeps {args.model_name}@{args.alias}: {message}")
        return message

    print(promotion.promote(run, args.model_name, args.alias, beats))
    return 0
