"""Stage ``rerank``: re-rank the predictions of all sets by local features, if ``rerank.features`` asks for it."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from vpr.config.errors import run_stage
from vpr.config.params import Params
from vpr.evaluation.centring import load_set
from vpr.localization.params import VAL_SET, IndexParams
from vpr.reranking.drawing import draw_matches
from vpr.reranking.params import RerankParams
from vpr.reranking.rerank_sets import rerank_sets
from vpr.retrieval.params import EvaluateParams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--descriptors", type=Path, required=True, help="folder of <set>/")
    parser.add_argument("--reranked", type=Path, required=True, help="folder for <set>.parquet, and drawings in <set>/")
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()
    content = Params.read()
    params, evaluation = content.section(RerankParams), content.section(EvaluateParams)
    val_set, neighbours = content.value(VAL_SET, str), content.section(IndexParams).neighbours
    shutil.rmtree(args.reranked, ignore_errors=True)
    args.reranked.mkdir(parents=True)
    times_file = args.reranked.with_name("rerank_times.json")  # not an output, because times differ between runs
    times_file.unlink(missing_ok=True)
    metrics: dict[str, Any] = {}
    times: dict[str, float] = {}
    if params.features != "none":
        sets = {name: load_set(args.descriptors / name, evaluation.centred) for name in content.eval_sets}
        reranked, gate = rerank_sets(sets, val_set, params, evaluation.positive_radius_m, neighbours)
        weight = gate.weight if gate else float(params.gate) or None
        metrics = {
            "features": params.features, "gate": gate.as_dict() if gate else None, "weight": weight, "sets": {},
        }  # fmt: skip
        for name, found in reranked.items():
            found.save(args.reranked / f"{name}.parquet")
            draw_matches(found, params, args.reranked / name)
            metrics["sets"][name] = numbers = found.metrics(evaluation.recall_at)
            recall = (
                f", R@1 {100 * numbers['before_recall_at_1']:.1f} -> {100 * numbers['after_recall_at_1']:.1f}"
                if "before_recall_at_1" in numbers
                else ""
            )
            times[name] = round(found.compared.seconds, 3)
            counts = f"{numbers['num_reranked']} of {numbers['num_queries']} queries"
            print(f"{name}: {counts}{recall}; {times[name]:.2f} s each")
        times_file.write_text(json.dumps(times), encoding="utf-8")
    (args.reranked / "sets.json").write_text(json.dumps(list(metrics.get("sets", []))) + "\n", encoding="utf-8")
    args.metrics.parent.mkdir(parents=True, exist_ok=True)
    args.metrics.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
