"""The runs that the paper reports: their settings, and comparison with ours."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpr.config.errors import UserError
from vpr.config.params import Params
from vpr.descriptors.params import ExportParams
from vpr.experiments.runs import Run
from vpr.sources.catalogue import load_sources
from vpr.training.params import merge_train

PAPER, CATALOGUE = Path("sweeps/paper.csv"), Path("data/sources.yaml")
PAPER_SETS = {"val": "sfxs_val", "test": "sfxs_test", "night": "tokyoxs_test"}  # in datasets.gsv_xs.images.eval_sets
PAPER_RADIUS_M = 25.0
PAPER_PRECISION = "32-true"

# Settings that do not change a result, or that a row of the paper chooses.
_FREE = {
    "train.accelerator", "train.devices", "train.num_nodes", "train.num_workers", "train.cache_gb",
    "train.decode_on_gpu", "train.compile", "train.max_memory_gb", "train.log_every_n_steps",
    "train.seed", "train.checkpoint", "train.val_set", "train.check_val_every_n_epochs", "train.monitor",
    "train.max_epochs", "export.seed", "export.pca_images", "export.whiten", "dataset.eval_sets", "dataset.seed",
    "agg.descriptor_dim", "agg.out_channels", "agg.out_rows", "agg.mix_depth",
}  # fmt: skip


def read_paper(path: Path = PAPER) -> list[dict[str, str]]:
    """Read the reported runs.

    Raises:
        UserError: outside the project.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; run from the project's root")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def paper_overrides(row: Mapping[str, str]) -> list[str]:
    """Return the settings with which ``dvc exp run -S`` runs a row of paper.csv."""
    agg, size = row["aggregator"], row["descriptor"]
    overrides = ["dataset=gsv_xs", f"agg={agg}", f"loss={row['loss']}", f"miner={row['miner']}"]
    overrides += [f"datasets.gsv_xs.train.max_epochs={row['epochs']}", f"train.precision={PAPER_PRECISION}"]
    if agg == "cosplace":
        overrides.append(f"aggregators.cosplace.descriptor_dim={size}")
    elif agg == "convap":
        overrides.append(f"aggregators.convap.out_channels={size}")
    elif agg == "mixvpr":  # the default of the original project, not of MixVPR
        overrides += [f"aggregators.mixvpr.out_channels={int(size) // 4}", "aggregators.mixvpr.mix_depth=1"]
    return overrides


@dataclass(frozen=True)
class Setting:
    """A reported run.

    Attributes:
        row: Its row of paper.csv.
        chosen: Parameters that identify it, as MLflow stores them.
        others: All other parameters.
        counts: Metrics that identify the evaluation sets.
    """

    row: dict[str, str]
    chosen: dict[str, str]
    others: dict[str, str]
    counts: dict[str, float]


def paper_settings(params: Params, paper: Path = PAPER, catalogue: Path = CATALOGUE) -> list[Setting]:
    """Return the reported runs with the settings of ``dataset: gsv_xs`` in params.yaml."""
    content, sources = params.content, load_sources(catalogue)
    images = content["datasets"]["gsv_xs"]["images"]
    counts = {}
    for name, source in images["eval_sets"].items():
        for part in ("queries", "database"):
            expected = sources[source].expected.get(part)
            if isinstance(expected, int):
                counts[f"{name}/num_{part}"] = float(expected)
        counts[f"{name}/positive_radius_m"] = PAPER_RADIUS_M
    merged = merge_train(params, "gsv_xs")
    assert merged is not None, "gsv_xs is a training set"
    train = merged.model_dump() | {"precision": PAPER_PRECISION}
    export = params.section(ExportParams).model_dump()
    settings = []
    for row in read_paper(paper):
        wanted = dict(override.split("=", 1) for override in paper_overrides(row))
        chosen = {f"{part}.name": wanted[part] for part in ("agg", "loss", "miner")}
        chosen["train.max_epochs"] = row["epochs"]
        chosen |= {f"agg.{key.rpartition('.')[2]}": v for key, v in wanted.items() if key.startswith("aggregators.")}
        brought = {
            "dataset": {"name": "gsv_xs", **images},
            "backbone": {"name": "resnet18", **content["backbones"]["resnet18"]},
            "agg": content["aggregators"][wanted["agg"]],
            "loss": content["losses"][wanted["loss"]],
            "miner": content["miners"][wanted["miner"]],
            "train": train,
            "export": export,
        }
        # The names of sets are not parameters of a run.
        others = {key: str(value) for part, options in brought.items() for key, value in _flat_part(part, options)}
        settings.append(Setting(row, chosen, others, counts))
    return settings


def _flat_part(part: str, options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{part}.{key}", value) for key, value in options.items() if f"{part}.{key}" not in _FREE]


def beside_paper(run: Run, paper: Sequence[Setting]) -> dict[str, Any]:
    """Return columns with the paper's recalls, and how the setting of a run differs."""
    for reported in paper:
        if any(run.params.get(key) != value for key, value in reported.chosen.items()):
            continue
        differing = [
            f"{key.removeprefix('train.')} {run.params[key]} instead of {value}"
            for key, value in reported.others.items()
            if key in run.params and run.params[key] != value
        ]
        differing += [f"{key} is unknown" for key in reported.others if key not in run.params and "dataset." not in key]
        differing += [
            f"{key} {run.metrics[key]:g} instead of {value:g}"
            for key, value in reported.counts.items()
            if key in run.metrics and run.metrics[key] != value
        ]
        found = {f"paper {name} R@1": reported.row[f"{column}_r1"] for name, column in PAPER_SETS.items()}
        setting = "the paper's" if not differing else "differs: " + "; ".join(differing)
        return {"paper run": reported.row["run"], **found, "setting": setting}
    return {"paper run": "", "setting": "not among the paper's runs"}
