"""Stage ``verify``: data/listing.parquet + images -> data/manifest, problems, page, statistics."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from vpr.datasets.dataset_page import dataset_page
from vpr.datasets.manifest import DATABASE, QUERY, read_manifest, write_parts
from vpr.datasets.verify import check_sets, kind_of, verify
from vpr.evaluation import labels_of
from vpr.params import VerifyParams, load_eval_sets, load_evaluate, load_section, load_validation_sets
from vpr.stages import run

SHOWN = 20


def summary(problems: pd.DataFrame, report: Path) -> str:
    """Counts of each problem, the first rows, and where all of them are."""
    kinds = problems.assign(problem=kind_of(problems["problem"]))
    counts = kinds.groupby(["severity", "problem"]).size()
    lines = [f"{len(problems)} problems in the dataset, all listed in {report}:"]
    lines += [f"  {count:6d} x {severity}: {problem}" for (severity, problem), count in counts.items()]
    errors = problems[problems["severity"] == "error"]
    for row in errors.head(SHOWN).itertuples():
        lines.append(f"  {row.role} {row.set} {row.image}: {row.problem}")
    if len(errors) > SHOWN:
        lines.append(f"  and {len(errors) - SHOWN} more")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listing", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True, help="folder of the manifest's parts")
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()
    params = load_section("verify", VerifyParams)
    radius_m = load_evaluate().positive_radius_m
    validation_sets = load_validation_sets()
    needed = list(dict.fromkeys([*load_eval_sets(), *validation_sets]))
    checked = verify(read_manifest(args.listing), radius_m, params.num_workers, params.queries_without_positives)
    args.problems.parent.mkdir(parents=True, exist_ok=True)
    severity = "error" if params.on_count_difference == "fail" else "warning"
    differing = [{"severity": severity, "role": "", "set": "", "image": "", "problem": d} for d in checked.differences]
    problems = pd.DataFrame([*differing, *checked.problems.to_dict("records")], columns=checked.problems.columns)
    problems.to_csv(args.problems, index=False)
    if len(checked.problems):
        print(summary(checked.problems, args.problems), file=sys.stderr)
    args.page.write_text(dataset_page(checked.manifest, problems, checked.statistics, radius_m), encoding="utf-8")
    args.metrics.parent.mkdir(parents=True, exist_ok=True)
    args.metrics.write_text(json.dumps(checked.statistics, indent=2) + "\n", encoding="utf-8")
    if checked.differences:
        print("\n  ".join(["counts differ from what sources should hold:", *checked.differences]), file=sys.stderr)
        if params.on_count_difference == "fail":
            sys.exit(
                "verify: get the whole of these sources, correct their `expected` in params.yaml, or set "
                "verify.on_count_difference to warn to go on with what is there"
            )
    if (checked.problems["severity"] == "error").any() and params.on_problem == "fail":
        gone = (checked.problems["problem"] == "the file is missing").sum()
        if gone:
            print(
                f"{gone} files are missing: if images were deleted, or DATA_ROOT is another now, run "
                "`dvc repro --force --single-item download`, then `dvc repro`",
                file=sys.stderr,
            )
        sys.exit(
            "verify: mend the dataset, or set verify.on_problem to skip in params.yaml to leave rows with errors out"
        )
    check_sets(checked.manifest, needed, "eval_sets and val_set")
    write_parts(checked.manifest, args.manifest, validation_sets[0] if validation_sets else None)
    statistics = checked.statistics
    print(
        f"verified {statistics['num_images']:,} images, left out {statistics['num_left_out']:,} rows; "
        f"{statistics['num_leaked']:,} evaluation images are training images too; look at {args.page}"
    )
    for name in checked.manifest.set_names():
        counts = statistics["sets"][name]
        labels = labels_of(checked.manifest.part(name, DATABASE), checked.manifest.part(name, QUERY))
        print(
            f"  {name}: {counts['num_database']:,} database images, {counts['num_queries']:,} queries, "
            f"{counts['num_queries_without_positives']:,} without a positive; positives by {labels}"
        )


if __name__ == "__main__":
    run(main)
