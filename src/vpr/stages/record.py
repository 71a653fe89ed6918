"""Stage ``record``: log models and metrics to MLflow, and write the facts in the report's footer.

The receipt is kept beside the store: without ``mlruns``, the next ``dvc repro`` records again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import UserError, run_stage
from vpr.config.params import Params
from vpr.descriptors.params import ExportParams
from vpr.experiments.recording import gather, receipt, record
from vpr.experiments.store import is_own_store, tracking_uri, warn, without_passwords
from vpr.report.run_facts import write_run_facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the training images")
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
    params = Params.read()
    results = gather(
        args.manifest, args.evaluation_manifest, args.models, args.model, args.index, args.predictions, args.report,
        args.metrics, params.eval_sets, params.section(ExportParams),
    )  # fmt: skip
    run_id = None
    try:
        run_id = record(results)
        print(f"recorded run {run_id} in {without_passwords(tracking_uri())}")
    except Exception as error:
        if is_own_store():
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(
                f"{tracking_uri()} cannot be written: {reason}; results are safe in files; solve the problem, or "
                "move mlruns away, and run `dvc repro` again"
            ) from error
        warn(f"not recorded: {error}")
    write_run_facts(args.report, args.model, results.log, run_id)
    args.receipt.parent.mkdir(parents=True, exist_ok=True)
    args.receipt.write_text(receipt(run_id, args.model, results.recalls), encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
