"""Stage ``verify``: check all images, and write the manifest, the problems and the page of the dataset."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import Params
from vpr.data.csv_files import to_csv
from vpr.data.manifest import DATABASE, read_manifest, write_parts
from vpr.retrieval.params import EvaluateParams
from vpr.retrieval.search import check_database_size
from vpr.verification.checks import check_sets, verify
from vpr.verification.dataset_page import dataset_page
from vpr.verification.outcome import all_problems, print_counts, stop_on_problems
from vpr.verification.params import VerifyParams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listing", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True, help="folder for the parts of the manifest")
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()
    content = Params.read()
    params, evaluate = content.section(VerifyParams), content.section(EvaluateParams)
    radius_m = evaluate.positive_radius_m
    trains, val_set = content.value("train.checkpoint", str | None) is None, content.value("train.val_set", str)
    listing = read_manifest(args.listing)
    checked = verify(listing, radius_m, params.num_workers, params.queries_without_positives, params.engine)
    problems = all_problems(checked, params)
    for path in (args.problems, args.page, args.metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
    args.problems.write_text(to_csv(problems), encoding="utf-8")
    args.page.write_text(dataset_page(checked.manifest, problems, checked.statistics, radius_m), encoding="utf-8")
    args.metrics.write_text(json.dumps(checked.statistics, indent=2) + "\n", encoding="utf-8")
    stop_on_problems(checked, params, args.problems)
    check_sets(checked.manifest, [*dict.fromkeys([*content.eval_sets, *([val_set] if trains else [])])])
    for name in content.eval_sets:
        check_database_size(evaluate.index, len(checked.manifest.part(name, DATABASE)), f"evaluation set {name}")
    write_parts(checked.manifest, args.manifest, val_set if trains else None)
    print_counts(checked, args.page)


if __name__ == "__main__":
    run_stage(main)
