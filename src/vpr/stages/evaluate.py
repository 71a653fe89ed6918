"""Stage ``evaluate``: the descriptors of one set -> recalls, curve, conditions and predictions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from vpr.datasets.manifest import read_manifest
from vpr.evaluation import evaluate_ranking
from vpr.params import load_evaluate
from vpr.retrieval import search
from vpr.stages import run


def table(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The rows, or an empty table with its header, which an unlabelled set has."""
    return rows if len(rows) else pd.DataFrame(columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--descriptors", type=Path, required=True)
    parser.add_argument("--recalls", type=Path, required=True)
    parser.add_argument("--curve", type=Path, required=True)
    parser.add_argument("--conditions", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    args = parser.parse_args()
    params = load_evaluate()
    database, queries = (
        (np.load(args.descriptors / f"{part}.npy", mmap_mode="r"), read_manifest(args.descriptors / f"{part}.parquet"))
        for part in ("database", "queries")
    )
    k = max(params.num_predictions, *params.recall_at)
    ranking, distances = search(database[0], queries[0], k, params.faiss_gpu)
    result = evaluate_ranking(
        ranking, distances, database[1].rows, queries[1].rows, params.recall_at, params.positive_radius_m
    )
    facts = json.loads((args.descriptors / "facts.json").read_text(encoding="utf-8"))
    numbers = {k: facts[k] for k in ("image_height_px", "image_width_px", "descriptor_dim")}
    for path in (args.recalls, args.curve, args.conditions, args.predictions):
        path.parent.mkdir(parents=True, exist_ok=True)
    args.recalls.write_text(json.dumps({**result.metrics, **numbers}, indent=2) + "\n", encoding="utf-8")
    name = args.recalls.stem
    table(result.curve, ["N", "recall"]).to_csv(args.curve, index=False)
    table(result.conditions, ["condition", "value"]).to_csv(args.conditions, index=False)
    kept = result.predictions[result.predictions["rank"] <= params.num_predictions]
    kept.reset_index(drop=True).to_parquet(args.predictions)
    told = ", ".join(
        f"R@{n} {100 * result.metrics[f'recall_at_{n}']:.1f}" for n in params.recall_at if result.curve.size
    )
    counts = f"{len(queries[1].rows)} queries, {len(database[1].rows)} database images"
    print(f"{name}: {counts}, {told or 'no labels, no recall'}")


if __name__ == "__main__":
    run(main)
