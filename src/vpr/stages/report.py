"""Stage ``report``: write data/report.html from the outputs of the other stages."""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import Params
from vpr.report.build import build_report
from vpr.report.report_page import render
from vpr.retrieval.params import EvaluateParams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder of training.json")
    parser.add_argument("--index", type=Path, required=True, help="index, which holds the calibration")
    parser.add_argument("--descriptors", type=Path, required=True, help="folder of <set>/")
    parser.add_argument("--predictions", type=Path, required=True, help="folder of <set>.parquet")
    parser.add_argument("--reranked", type=Path, required=True, help="folder of <set>/, with drawings")
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True)
    args = parser.parse_args()
    params = Params.read()
    names, radius_m = params.eval_sets, params.section(EvaluateParams).positive_radius_m
    report = build_report(
        args.model, args.models, args.index, args.descriptors, args.predictions, args.reranked, args.metrics, names,
        radius_m,
    )  # fmt: skip
    page = render(report)
    args.page.write_text(page, encoding="utf-8")
    print(f"{args.page}: {len(page.encode()) / 1e6:.1f} MB, {len(report.thumbs)} thumbnails")


if __name__ == "__main__":
    run_stage(main)
