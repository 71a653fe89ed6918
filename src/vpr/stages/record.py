"""Stage ``record``: models and metrics -> the model's MLflow run, and what the report says of the run.

The receipt is beside the store and goes with it: wipe ``mlruns`` and the next ``dvc repro`` records again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import UserError, run_stage
from vpr.config.params import load, load_eval_sets
from vpr.experiments.record import gather, receipt, record
from vpr.experiments.store import is_own_store, tracking_uri, warn, without_passwords
from vpr.model.params import ExportParams
from vpr.report.run_facts import write_run_facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="of the training images")
    parser.add_argument("--evaluation-manifest", type=Path, required=True)
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
    results = gather(
        args.manifest, args.evaluation_manifest, args.models, args.model, args.index, args.predictions, args.report,
        args.metrics, load_eval_sets(), load(ExportParams),
    )  # fmt: skip
    run_id = None
    try:
        run_id = record(results)
        print(f"recorded run {run_id} in {without_passwords(tracking_uri())}")
    except Exception as error:
        if is_own_store():
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(
                f"{tracking_uri()} can't be written: {reason}; results are safe in files; put that right, or move "
                "mlruns away, and run `dvc repro` again"
            ) from error
        warn(f"not recorded: {error}")
    write_run_facts(args.report, args.model, results.log, run_id)
    args.receipt.parent.mkdir(parents=True, exist_ok=True)
    args.receipt.write_text(receipt(run_id, args.model, results.recalls), encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
