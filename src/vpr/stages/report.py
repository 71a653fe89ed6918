"""Stage ``report``: what the other stages left -> data/report.html."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from vpr.datasets.manifest import read_manifest
from vpr.localization import load_index
from vpr.model import load_checkpoint
from vpr.params import load_eval_sets, load_evaluate
from vpr.report.data import THUMB_BYTES, SetInput, Thumbnails, add_heat_maps, set_data
from vpr.report.page import render
from vpr.stages import run


def training_curves(metrics: Path) -> dict[str, list[list[float]]]:
    """Rows for the charts; empty where nothing was trained."""
    steps, epochs = (pd.read_csv(metrics / name) for name in ("training.csv", "validation.csv"))
    return {
        "loss": steps[["step", "loss"]].dropna().values.tolist() if len(steps) else [],
        "informative": steps[["step", "informative_share"]].dropna().values.tolist() if len(steps) else [],
        "validation": epochs[["epoch", "val_recall_at_1", "val_recall_at_5"]].values.tolist() if len(epochs) else [],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder of training.json")
    parser.add_argument("--index", type=Path, required=True, help="holds the calibration")
    parser.add_argument("--descriptors", type=Path, required=True, help="folder of <set>/")
    parser.add_argument("--predictions", type=Path, required=True, help="folder of <set>.parquet")
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True)
    args = parser.parse_args()
    radius_m, names = load_evaluate().positive_radius_m, load_eval_sets()
    model, _ = load_checkpoint(args.model)
    facts = json.loads((args.models / "training.json").read_text(encoding="utf-8"))
    calibration = load_index(args.index).calibration
    sets, thumbnails = [], Thumbnails(THUMB_BYTES // len(names))
    for name in names:
        given = SetInput(
            read_manifest(args.descriptors / name / "database.parquet"),
            read_manifest(args.descriptors / name / "queries.parquet"),
            pd.read_parquet(args.predictions / f"{name}.parquet"),
            json.loads((args.metrics / "recalls" / f"{name}.json").read_text(encoding="utf-8")),
        )
        data = set_data(name, given, radius_m, calibration, thumbnails)
        add_heat_maps(model, given, data)
        sets.append(data)
    configuration = facts["configuration"]
    components = " + ".join(configuration[key]["name"] for key in ("backbone", "agg", "loss", "miner"))
    title = f"{components} on {given.queries.name}"
    trained = (
        f"trained on {configuration['dataset']['name']}, best epoch {facts['best_epoch']}, {facts['seconds']:.0f} s"
    )
    told = f"{trained} on {facts['machine']}; commit {facts['git_commit'][:12]}"
    rows = [(f"{part}.{key}", str(value)) for part, options in configuration.items() for key, value in options.items()]
    page = render(title, told, rows, [components], sets, thumbnails.encoded, training_curves(args.metrics))
    args.page.write_text(page, encoding="utf-8")
    print(f"{args.page}: {len(page.encode()) / 1e6:.1f} MB, {len(thumbnails.encoded)} thumbnails")


if __name__ == "__main__":
    run(main)
