"""Runs side by side: over seeds, and beside the paper's."""

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
    """Runs that differ in their seed alone, together; in the order given.

    Of several runs with the same seed, which another machine or code made differ, the first given counts.
    """
    groups: dict[tuple[Any, ...], dict[str, Run]] = {}
    for run in runs:
        rest = sorted((k, v) for k, v in run.params.items() if k != "train.seed")
        counts = sorted((k, v) for k, v in run.metrics.items() if k.endswith(_COUNTS))
        groups.setdefault((run.digest, *rest, *counts), {}).setdefault(run.params.get("train.seed", ""), run)
    return [list(group.values()) for group in groups.values()]


def compare(runs: Sequence[Run], sort: str | None = None, paper: Sequence[Setting] = ()) -> pd.DataFrame:
    """A row for each group of runs that differ in the seed alone.

    Args:
        sort: a metric such as ``test/recall_at_1``, the best first; by default recall@1 of the first set.
        paper: ``paper_settings``; ours stand beside theirs, and ``setting`` says whether they are comparable.

    Raises:
        UserError: if there are no runs, or no run has the metric.
    """
    if not runs:
        raise UserError("there are no runs with recalls in the MLflow store; run `dvc repro` first")
    sets = list(dict.fromkeys(name for run in runs for name in run.sets()))
    key = sort or f"{sets[0]}/recall_at_1"
    if not any(key in run.metrics for run in runs):
        known = sorted({k for run in runs for k in run.metrics if "/recall_at_" in k})
        raise UserError(f"no run has the metric {key!r}; choose one of: {', '.join(known)}")
    groups = seed_groups(runs)

    def value(group: list[Run], metric: str) -> list[float]:
        return [run.metrics[metric] for run in group if metric in run.metrics]

    groups.sort(key=lambda group: -np.mean(value(group, key)) if value(group, key) else 1.0)
    rows = []
    for group in groups:
        run = group[0]
        row: dict[str, Any] = {"run": run.all_names if len(group) == 1 else f"{run.name} and {len(group) - 1} more"}
        row |= {part: run.params.get(f"{part}.name", "") for part in COMPONENTS}
        row |= {"dataset": run.params.get("dataset.name", ""), "epochs": run.params.get("train.max_epochs", "")}
        row["seeds"] = len(group)
        for name in sets:
            for n in (1, 5):
                row[f"{name} R@{n}"] = _spread(value(group, f"{name}/recall_at_{n}"))
        if paper:
            row |= beside_paper(run, paper)
        row["id"] = run.id[:8]
        rows.append(row)
    table = pd.DataFrame(rows)
    same = [c for c in (*COMPONENTS, "dataset", "epochs", "seeds") if len(table) > 1 and table[c].nunique() == 1]
    return table.drop(columns=[c for c in same if c not in ("agg", "loss")])


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f}"


def formatted(table: pd.DataFrame, style: str) -> str:
    """The table for a terminal (``table``), as ``markdown`` or as ``csv``."""
    shown = table.fillna("").astype(str)
    if style == "csv":
        return to_csv(shown).rstrip("\n")
    form = "github" if style == "markdown" else "simple"
    return tabulate(shown.to_dict("records"), headers="keys", tablefmt=form, disable_numparse=True)
