"""Stage ``evaluate``: compute recalls, conditions and predictions from the descriptors of one set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from vpr.config.errors import run_stage
from vpr.config.params import Params
from vpr.data.csv_files import to_csv
from vpr.evaluation.centring import load_set
from vpr.evaluation.evaluation import evaluate_ranking, sequence_recalls
from vpr.retrieval.params import EvaluateParams
from vpr.retrieval.search import approximate_index, search, search_in, size_bytes


def write_table(rows: pd.DataFrame, columns: list[str], path: Path) -> None:
    """Write a table; without rows, as for an unlabelled set, only its header."""
    path.write_text(to_csv(rows if len(rows) else pd.DataFrame(columns=columns)), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--descriptors", type=Path, required=True)
    parser.add_argument("--recalls", type=Path, required=True)
    parser.add_argument("--curve", type=Path, required=True)
    parser.add_argument("--conditions", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    args = parser.parse_args()
    params = Params.read().section(EvaluateParams)
    described = load_set(args.descriptors, params.centred)
    database, queries = described.database, described.queries
    k = max(params.num_predictions, *params.recall_at)
    ranking, distances = search(database.descriptors, queries.descriptors, k, params.faiss_gpu)
    found, facts = None, dict[str, Any]({"centred": True} if params.centred else {})
    if params.index is not None:
        index = approximate_index(params.index, database.descriptors)
        found, _ = search_in(index, queries.descriptors, k)
        facts |= {"index": params.index, "index_bytes_per_image": round(size_bytes(index) / index.ntotal, 1)}
    result = evaluate_ranking(
        ranking, distances, database.rows, queries.rows, params.recall_at, params.positive_radius_m, found
    )
    if params.sequence is not None:
        both = (database.descriptors, queries.descriptors)
        facts |= sequence_recalls(
            database.rows, queries.rows, both, params.recall_at, params.positive_radius_m, params.sequence
        )
    facts |= {key: described.facts[key] for key in ("image_height_px", "image_width_px", "descriptor_dim")}
    for path in (args.recalls, args.curve, args.conditions):
        path.parent.mkdir(parents=True, exist_ok=True)
    args.recalls.write_text(json.dumps({**result.metrics, **facts}, indent=2) + "\n", encoding="utf-8")
    write_table(result.curve, ["N", "recall"], args.curve)
    write_table(result.conditions, ["condition", "value"], args.conditions)
    result.predictions.first(params.num_predictions).save(args.predictions)
    recalls = ", ".join(
        f"R@{n} {100 * result.metrics[f'recall_at_{n}']:.1f}" for n in params.recall_at if len(result.curve)
    )
    if "sequence_recall_at_1" in facts:
        recalls += f", over drives R@1 {100 * facts['sequence_recall_at_1']:.1f}"
    counts = f"{len(queries.rows)} queries, {len(database.rows)} database images"
    print(f"{described.name}: {counts}, {recalls or 'no labels, so no recall'}")


if __name__ == "__main__":
    run_stage(main)
