"""Compare runs, with a mean over seeds, and with the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from vpr.config.errors import UserError
from vpr.data.csv_files import to_csv
from vpr.experiments.paper import Setting, beside_paper
from vpr.experiments.runs import Run

COMPONENTS = ("backbone", "agg", "loss", "miner")

_COUNTS = ("/num_queries", "/num_database", "/positive_radius_m", "/image_height_px", "/image_width_px")


def seed_groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs that differ only in their seed, in the given order.

    Of several runs with the same seed, made by other machines or code, only the first is used.
    """
    groups: dict[tuple[Any, ...], dict[str, Run]] = {}
    for run in runs:
        rest = sorted((k, v) for k, v in run.params.items() if k != "train.seed")
        counts = sorted((k, v) for k, v in run.metrics.items() if k.endswith(_COUNTS))
        sets = sorted(run.set_digests.items())
        groups.setdefault((run.digest, *rest, *counts, *sets), {}).setdefault(run.params.get("train.seed", ""), run)
    return [list(group.values()) for group in groups.values()]


def compare(runs: Sequence[Run], sort: str | None = None, paper: Sequence[Setting] = ()) -> pd.DataFrame:
    """Return a table with a row for each group of runs that differ only in the seed.

    Args:
        runs: Runs to compare.
        sort: Metric to sort by, such as ``test/recall_at_1``; by default recall@1 of the first set.
        paper: Reported runs, see ``paper_settings``; the column ``setting`` says whether a run is comparable.

    Raises:
        UserError: if there are no runs, or no run has the metric.
    """
    if not runs:
        raise UserError("the MLflow store has no runs with recalls; run `dvc repro` first")
    columns = columns_of_sets(runs)
    key = sort or f"{next(iter(columns))}/recall_at_1"
    column, _, metric = key.rpartition("/")
    if not _values(runs, columns.get(column, {}), metric):
        known = sorted({k for run in runs for k in run.metrics if "/recall_at_" in k})
        raise UserError(f"no run has the metric {key!r}; choose one of: {', '.join(known)}")

    def sorted_by(group: list[Run]) -> float:
        values = _values(group, columns[column], metric)
        return -float(np.mean(values)) if values else 1.0

    groups = sorted(seed_groups(runs), key=sorted_by)
    rows = []
    for group in groups:
        run = group[0]
        row: dict[str, Any] = {"run": run.all_names if len(group) == 1 else f"{run.name} and {len(group) - 1} more"}
        row |= {part: run.params.get(f"{part}.name", "") for part in COMPONENTS}
        row |= {"dataset": run.params.get("dataset.name", ""), "epochs": run.params.get("train.max_epochs", "")}
        row["seeds"] = len(group)
        for title, names in columns.items():
            for n in (1, 5):
                row[f"{title} R@{n}"] = _spread(_values(group, names, f"recall_at_{n}"))
        if paper:
            row |= beside_paper(run, paper)
        row["id"] = run.id[:8]
        rows.append(row)
    table = pd.DataFrame(rows)
    same = [c for c in (*COMPONENTS, "dataset", "epochs", "seeds") if len(table) > 1 and table[c].nunique() == 1]
    return table.drop(columns=[c for c in same if c not in ("agg", "loss")])


def columns_of_sets(runs: Sequence[Run]) -> dict[str, dict[str, str]]:
    """Return the columns of evaluation sets: for each title, the set's name in each run, by the run's id.

    Sets with equal content share a column even if their names differ; sets with one name but other content do not. A
    run without digests is assumed to have used the first set of a name.
    """
    of_name: dict[str, str] = {}
    for run in runs:
        for name, digest in run.set_digests.items():
            of_name.setdefault(name, digest)
    titles: dict[str, str] = {}
    columns: dict[str, dict[str, str]] = {}
    for run in runs:
        for name in run.sets():
            digest = run.set_digests.get(name) or of_name.get(name, name)
            title = titles.setdefault(digest, f"{name} ({digest[:8]})" if name in columns else name)
            columns.setdefault(title, {}).setdefault(run.id, name)
    return columns


def _values(runs: Sequence[Run], names: dict[str, str], metric: str) -> list[float]:
    """Return a metric of an evaluation set for each run that has it."""
    keys = [(run, f"{names.get(run.id)}/{metric}") for run in runs]
    return [run.metrics[key] for run, key in keys if key in run.metrics]


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f}"


def formatted(table: pd.DataFrame, style: str) -> str:
    """Format a table for a terminal (``table``), as ``markdown`` or as ``csv``."""
    shown = table.fillna("").astype(str)
    if style == "csv":
        return to_csv(shown).rstrip("\n")
    form = "github" if style == "markdown" else "simple"
    return tabulate(shown.to_dict("records"), headers="keys", tablefmt=form, disable_numparse=True)
