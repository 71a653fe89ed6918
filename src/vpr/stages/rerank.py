"""Stage ``rerank``: descriptors and images of all sets -> data/reranked, metrics/reranked.json; nothing by default."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from vpr.config.errors import run_stage
from vpr.config.params import load, load_eval_sets, load_value
from vpr.localization.params import IndexParams
from vpr.reranking.drawing import draw_matches
from vpr.reranking.params import RerankParams
from vpr.reranking.second_look import look_again
from vpr.retrieval.centring import loaded
from vpr.retrieval.params import EvaluateParams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--descriptors", type=Path, required=True, help="folder of <set>/")
    parser.add_argument("--reranked", type=Path, required=True, help="folder of <set>.parquet and <set>/, the drawings")
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()
    params, evaluation = load(RerankParams), load(EvaluateParams)
    names, val_set = load_eval_sets(), load_value("datasets.${dataset}.train.val_set", str)
    neighbours = load(IndexParams).neighbours
    shutil.rmtree(args.reranked, ignore_errors=True)
    args.reranked.mkdir(parents=True)
    of_this_run = args.reranked.with_name("rerank_times.json")  # beside the page, whose foot shows it
    of_this_run.unlink(missing_ok=True)
    metrics: dict[str, Any] = {}
    times: dict[str, float] = {}
    if params.features != "none":
        sets = {name: loaded(args.descriptors / name, evaluation.centred) for name in names}
        looks, gate = look_again(sets, val_set, params, evaluation.positive_radius_m, neighbours)
        weight = gate.weight if gate else float(params.gate) or None
        gated = gate.as_dict() if gate else None
        metrics = {"features": params.features, "gate": gated, "weight": weight, "sets": {}}
        for name, look in looks.items():
            look.save(args.reranked / f"{name}.parquet")
            draw_matches(look, params, args.reranked / name)
            metrics["sets"][name] = found = look.metrics(evaluation.recall_at)
            recall = (
                f", R@1 {100 * found['before_recall_at_1']:.1f} -> {100 * found['after_recall_at_1']:.1f}"
                if "before_recall_at_1" in found
                else ""
            )
            times[name] = round(look.compared.seconds, 3)
            print(
                f"{name}: {found['num_looked_at']} of {found['num_queries']} queries{recall}; {times[name]:.2f} s each"
            )
        of_this_run.write_text(json.dumps(times), encoding="utf-8")
    (args.reranked / "sets.json").write_text(json.dumps(list(metrics.get("sets", []))) + "\n", encoding="utf-8")
    args.metrics.parent.mkdir(parents=True, exist_ok=True)
    args.metrics.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
