"""Stage ``verify``: data/listing.parquet + images -> data/manifest.parquet, problems, contact sheet, statistics."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from vpr.datasets.contact_sheet import contact_sheet
from vpr.datasets.manifest import read_manifest, write_manifest
from vpr.datasets.verify import check_sets, verify
from vpr.params import VerifyParams, load_eval_sets, load_evaluate, load_section, load_validation_sets
from vpr.stages import run

SHOWN = 20


def summary(problems: pd.DataFrame, report: Path) -> str:
    """Counts of each problem, the first rows, and where all of them are."""
    kinds = problems["problem"].str.replace(r":.*", "", regex=True).value_counts()
    lines = [f"{len(problems)} problems in the dataset, all listed in {report}:"]
    lines += [f"  {count:6d} x {kind}" for kind, count in kinds.items()]
    for row in problems.head(SHOWN).itertuples():
        lines.append(f"  {row.role} {row.set} {row.image}: {row.problem}")
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN} more")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listing", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()
    params = load_section("verify", VerifyParams)
    radius_m = load_evaluate().positive_radius_m
    checked = verify(read_manifest(args.listing), radius_m, params.num_workers)
    needed = dict.fromkeys([*load_eval_sets(), *load_validation_sets()])
    args.problems.parent.mkdir(parents=True, exist_ok=True)
    checked.problems.to_csv(args.problems, index=False)
    if len(checked.problems):
        print(summary(checked.problems, args.problems), file=sys.stderr)
        if params.on_problem == "fail":
            sys.exit(
                "verify: mend the dataset, or set verify.on_problem to skip in params.yaml to leave these rows out"
            )
    check_sets(checked.manifest, list(needed), "eval_sets and val_set")
    write_manifest(checked.manifest, args.manifest)
    contact_sheet(checked.manifest).save(args.sheet, quality=85)
    args.metrics.parent.mkdir(parents=True, exist_ok=True)
    args.metrics.write_text(json.dumps(checked.statistics, indent=2) + "\n", encoding="utf-8")
    print(f"verified {checked.statistics['num_images']:,} images, left out {checked.statistics['num_left_out']:,} rows")


if __name__ == "__main__":
    run(main)
