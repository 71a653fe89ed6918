"""Stage ``record``: models and metrics -> the model's MLflow run.

The receipt lies beside the store and goes with it: wipe ``mlruns`` and the next ``dvc repro`` records again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from vpr.datasets.manifest import read_manifest
from vpr.params import load_eval_sets, load_export
from vpr.stages import run
from vpr.tracking import receipt, record, tracking_uri, warn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True, help="folder of <set>.parquet")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument(
        "--metrics", type=Path, required=True, help="folder of training.csv, validation.csv, recalls/, conditions/"
    )
    parser.add_argument("--receipt", type=Path, required=True)
    args = parser.parse_args()
    recalls: dict[str, dict[str, Any]] = {}
    artifacts = [args.models / "training.json", args.report]
    for name in load_eval_sets():
        path = args.metrics / "recalls" / f"{name}.json"
        recalls[name] = json.loads(path.read_text(encoding="utf-8"))
        artifacts += [path, args.metrics / "conditions" / f"{name}.csv", args.predictions / f"{name}.parquet"]
    curve: Any = [
        row
        for name in ("training.csv", "validation.csv")
        for row in pd.read_csv(args.metrics / name).to_dict("records")
    ]
    run_id = None
    try:
        facts = json.loads((args.models / "training.json").read_text(encoding="utf-8"))
        run_id = record(
            facts,
            args.models,
            args.model,
            args.index,
            asdict(load_export()),
            curve,
            recalls,
            artifacts,
            read_manifest(args.manifest),
        )
        print(f"recorded run {run_id} in {tracking_uri()}")
    except Exception as error:  # results must not be lost with a tracking server
        warn(f"not recorded: {error}")
    args.receipt.parent.mkdir(parents=True, exist_ok=True)
    args.receipt.write_text(receipt(run_id, args.model, recalls), encoding="utf-8")


if __name__ == "__main__":
    run(main)
