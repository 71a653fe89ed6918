"""Runs beside each other: over seeds, against each other on the same queries, and against the paper's."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from tabulate import tabulate

from vpr.params import PARAMS_FILE, read_params

PAPER = Path("sweeps/paper.csv")
PAPER_SETS = {"val": "sfxs_val", "test": "sfxs_test", "night": "tokyoxs_test"}  # in datasets.gsv_xs.eval_sets
COMPONENTS = ("backbone", "agg", "loss", "miner")

_COUNTS = ("/num_queries", "/num_database", "/positive_radius_m", "/image_height_px", "/image_width_px")

# What does not change a result, or is chosen by the paper's row.
_FREE = {
    "train.accelerator", "train.devices", "train.num_workers", "train.max_memory_gb", "train.log_every_n_steps",
    "train.seed", "train.checkpoint", "train.val_set", "train.check_val_every_n_epochs", "train.monitor",
    "train.max_epochs", "export.seed", "export.pca_images", "export.whiten", "dataset.eval_sets", "dataset.seed",
    "agg.descriptor_dim", "agg.out_channels", "agg.out_rows", "agg.mix_depth",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run of the MLflow store.

    Attributes:
        params: flat, as text.
        metrics: flat, such as ``val/recall_at_1``.
        digest: of the training data.
    """

    id: str
    name: str
    params: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)
    digest: str = ""

    def sets(self) -> list[str]:
        """Evaluation sets that this run has recalls of."""
        return [key.removesuffix("/recall_at_1") for key in self.metrics if key.endswith("/recall_at_1")]


def distinct_names(first: Run, second: Run) -> tuple[str, str]:
    """What two runs are called beside each other: with their ids, if their names are the same."""
    if first.name != second.name:
        return first.name, second.name
    return f"{first.name} ({first.id[:8]})", f"{second.name} ({second.id[:8]})"


@dataclass(frozen=True)
class PairedTest:
    """Two runs on the same queries.

    Attributes:
        only_first, only_second: queries whose first prediction is right in one of them alone.
        difference: recall@1 of the second less that of the first, with its 95 % interval by the bootstrap.
        p_value: of McNemar's exact test, two-sided: how often chance alone parts the queries so unevenly.
    """

    num_queries: int
    only_first: int
    only_second: int
    difference: float
    interval: tuple[float, float]
    p_value: float


def first_found(predictions: pd.DataFrame) -> pd.Series:
    """Whether each query's first prediction is a positive, by query."""
    first = predictions[predictions["rank"] == 1].set_index("query")["is_positive"]
    if first.isna().any():
        raise ValueError("the set has no labels, so there is nothing to compare")
    return first.astype(bool)


def paired_test(first: pd.DataFrame, second: pd.DataFrame, draws: int = 20_000, seed: int = 0) -> PairedTest:
    """Compare the predictions of two runs on one evaluation set.

    Raises:
        ValueError: if they are not of the same queries.
    """
    one, two = first_found(first), first_found(second)
    if len(one) != len(two) or set(one.index) != set(two.index):
        raise ValueError(
            f"the runs were evaluated on other queries ({len(one)} and {len(two)}, "
            f"{len(set(one.index) & set(two.index))} in common); compare runs on the same evaluation set"
        )
    gain = two.loc[one.index].to_numpy().astype(int) - one.to_numpy().astype(int)
    only_second, only_first, number = int((gain == 1).sum()), int((gain == -1).sum()), len(gain)
    differing = only_first + only_second
    p_value = float(binomtest(only_second, differing, 0.5).pvalue) if differing else 1.0
    # Queries drawn with replacement: only how many of each kind counts.
    kinds = np.array([only_second, only_first, number - differing]) / number
    drawn = np.random.default_rng(seed).multinomial(number, kinds, size=draws)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / number, [2.5, 97.5])
    return PairedTest(number, only_first, only_second, float(gain.mean()), (float(low), float(high)), p_value)


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
        ValueError: if there are no runs, or no run has the metric.
    """
    if not runs:
        raise ValueError("there are no runs with recalls in the MLflow store; run `dvc repro` first")
    sets = list(dict.fromkeys(name for run in runs for name in run.sets()))
    key = sort or f"{sets[0]}/recall_at_1"
    if not any(key in run.metrics for run in runs):
        known = sorted({k for run in runs for k in run.metrics if "/recall_at_" in k})
        raise ValueError(f"no run has the metric {key!r}; choose one of: {', '.join(known)}")
    groups = seed_groups(runs)

    def value(group: list[Run], metric: str) -> list[float]:
        return [run.metrics[metric] for run in group if metric in run.metrics]

    groups.sort(key=lambda group: -np.mean(value(group, key)) if value(group, key) else 1.0)
    rows = []
    for group in groups:
        run = group[0]
        row: dict[str, Any] = {"run": run.name if len(group) == 1 else f"{run.name} and {len(group) - 1} more"}
        row |= {part: run.params.get(f"{part}.name", "") for part in COMPONENTS}
        row |= {"dataset": run.params.get("dataset.name", ""), "epochs": run.params.get("train.max_epochs", "")}
        row["seeds"] = len(group)
        for name in sets:
            for n in (1, 5):
                row[f"{name} R@{n}"] = _spread(value(group, f"{name}/recall_at_{n}"))
        if paper:
            row |= _beside_paper(run, paper)
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


def read_paper(path: Path = PAPER) -> list[dict[str, str]]:
    """The reported runs.

    Raises:
        FileNotFoundError: outside the project.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; run from the project's root")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def paper_overrides(row: Mapping[str, str]) -> list[str]:
    """What ``dvc exp run -S`` needs to run a row of paper.csv."""
    agg, size = row["aggregator"], row["descriptor"]
    overrides = ["dataset=gsv_xs", f"agg={agg}", f"loss={row['loss']}", f"miner={row['miner']}"]
    overrides.append(f"train.gsv_xs.max_epochs={row['epochs']}")
    if agg == "cosplace":
        overrides.append(f"aggregators.cosplace.descriptor_dim={size}")
    elif agg == "convap":
        overrides.append(f"aggregators.convap.out_channels={size}")
    elif agg == "mixvpr":  # the original project's own default, not MixVPR's
        overrides += [f"aggregators.mixvpr.out_channels={int(size) // 4}", "aggregators.mixvpr.mix_depth=1"]
    return overrides


@dataclass(frozen=True)
class Setting:
    """A reported run: its row of paper.csv, what chooses it, and all else that it was run with.

    Attributes:
        chosen, others: parameters of a run, as MLflow has them.
        counts: metrics that say which sets these are.
    """

    row: dict[str, str]
    chosen: dict[str, str]
    others: dict[str, str]
    counts: dict[str, float]


def paper_settings(paper: Path = PAPER, params_file: Path = PARAMS_FILE) -> list[Setting]:
    """The reported runs with the setting that ``dataset: gsv_xs`` of params.yaml brings."""
    params = read_params(params_file)
    counts = {}
    for name, source in params["datasets"]["gsv_xs"]["eval_sets"].items():
        for part in ("queries", "database"):
            expected = params["sources"][source]["expected"].get(part)
            if expected:
                counts[f"{name}/num_{part}"] = float(expected)
        counts[f"{name}/positive_radius_m"] = 25.0
    settings = []
    for row in read_paper(paper):
        wanted = dict(item.split("=", 1) for item in paper_overrides(row))
        chosen = {f"{part}.name": wanted[part] for part in ("agg", "loss", "miner")}
        chosen["train.max_epochs"] = row["epochs"]
        chosen |= {f"agg.{key.rpartition('.')[2]}": v for key, v in wanted.items() if key.startswith("aggregators.")}
        blocks = {
            "dataset": params["datasets"]["gsv_xs"],
            "backbone": params["backbones"]["resnet18"],
            "agg": params["aggregators"][wanted["agg"]],
            "loss": params["losses"][wanted["loss"]],
            "miner": params["miners"][wanted["miner"]],
            "train": params["train"]["gsv_xs"],
            "export": params["export"],
        }
        others = {"dataset.name": "gsv_xs", "backbone.name": "resnet18"}
        for part, options in blocks.items():
            others |= {f"{part}.{key}": str(v) for key, v in options.items() if f"{part}.{key}" not in _FREE}
        settings.append(Setting(row, chosen, others, counts))
    return settings


def _beside_paper(run: Run, paper: Sequence[Setting]) -> dict[str, Any]:
    for setting in paper:
        if any(run.params.get(key) != value for key, value in setting.chosen.items()):
            continue
        differing = [
            f"{key.removeprefix('train.')} {run.params[key]} instead of {value}"
            for key, value in setting.others.items()
            if key in run.params and run.params[key] != value
        ]
        differing += [
            f"{key} is not known" for key in setting.others if key not in run.params and "dataset." not in key
        ]
        differing += [
            f"{key} {run.metrics[key]:g} instead of {value:g}"
            for key, value in setting.counts.items()
            if key in run.metrics and run.metrics[key] != value
        ]
        found = {f"paper {name} R@1": setting.row[f"{column}_r1"] for name, column in PAPER_SETS.items()}
        told = "the paper's" if not differing else "differs: " + "; ".join(differing)
        return {"paper run": setting.row["run"], **found, "setting": told}
    return {"paper run": "", "setting": "not among the paper's runs"}


def formatted(table: pd.DataFrame, style: str) -> str:
    """The table for a terminal (``table``), as ``markdown`` or as ``csv``."""
    shown = table.fillna("").astype(str)
    if style == "csv":
        text = io.StringIO()
        shown.to_csv(text, index=False)
        return text.getvalue().rstrip("\n")
    form = "github" if style == "markdown" else "simple"
    return tabulate(shown.to_dict("records"), headers="keys", tablefmt=form, disable_numparse=True)


def told_test(name: str, first: str, second: str, test: PairedTest) -> str:
    """A paired test in words."""
    low, high = (100 * v for v in test.interval)
    verdict = "more than chance" if test.p_value < 0.05 else "may be chance"
    points = f"{100 * test.difference:+.1f} points (95 % {low:+.1f} to {high:+.1f}), p = {test.p_value:.2g}: {verdict}"
    return (
        f"{name}: {second} finds {test.only_second} queries that {first} does not, and misses {test.only_first} that "
        f"it finds, of {test.num_queries}; recall@1 {points}"
    )
