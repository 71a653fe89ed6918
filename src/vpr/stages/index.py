"""Stage ``index``: the database of one evaluation set + predictions on the validation set -> data/index.

What ``vpr localize`` and the logged model answer from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import load, load_eval_sets, load_value
from vpr.data.checksums import file_sha256
from vpr.data.described_set import DescribedSet
from vpr.localization.confidence import Calibration, NoConfidence, calibrate
from vpr.localization.index import Index, IndexFacts
from vpr.localization.params import IndexParams, load_index_set
from vpr.retrieval.evaluation import evaluate_ranking
from vpr.retrieval.params import EvaluateParams
from vpr.retrieval.search import search


def learn_confidence(
    val_set: str, descriptors: Path, radius_m: float, neighbours: int
) -> tuple[Calibration | None, str]:
    """The calibration, and what to print of it: of descriptors as photos have them, which evaluation may centre."""
    described = DescribedSet.load(descriptors / val_set)
    database, queries = described.database, described.queries
    ranking, distances = search(database.descriptors, queries.descriptors, neighbours)
    found = evaluate_ranking(ranking, distances, database.rows, queries.rows, [1], radius_m).predictions
    try:
        dataset = database.manifest.name
        fitted = calibrate(found, database.rows, queries.rows, dataset, val_set, radius_m, neighbours)
    except NoConfidence as error:
        return None, f"no confidence: {error}"
    return fitted, f"confidence learnt on {fitted.num_queries} queries of {val_set}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--descriptors", type=Path, required=True, help="folder of <set>/")
    parser.add_argument("--index", type=Path, required=True)
    args = parser.parse_args()
    sets, radius_m = load_eval_sets(), load(EvaluateParams).positive_radius_m
    val_set, neighbours = load_value("datasets.${dataset}.train.val_set", str), load(IndexParams).neighbours
    calibration, message = None, f"no confidence: {val_set} is not among eval_sets"
    if val_set in sets:
        calibration, message = learn_confidence(val_set, args.descriptors, radius_m, neighbours)
    described = DescribedSet.load(args.descriptors / load_index_set())
    database = described.database
    name = f"{database.manifest.name} {described.name}"
    facts = IndexFacts(file_sha256(args.model), database.manifest.name, name, radius_m)
    Index(database.descriptors, database.rows, facts, calibration).save(args.index)
    print(f"{len(database.rows)} images of {described.name}; {message}")


if __name__ == "__main__":
    run_stage(main)
