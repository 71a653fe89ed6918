"""Stage ``index``: write data/index, in which ``vpr localize`` and the logged model locate photos.

It holds the database of one evaluation set, and a confidence that is learnt on the validation set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import Params
from vpr.data.checksums import file_sha256
from vpr.descriptors.described_set import DescribedSet
from vpr.evaluation.evaluation import evaluate_ranking
from vpr.localization.confidence import Calibration, NoConfidence, calibrate
from vpr.localization.index_files import IndexFacts, write_index
from vpr.localization.params import VAL_SET, IndexParams, index_set
from vpr.retrieval.params import EvaluateParams
from vpr.retrieval.search import search


def learn_confidence(
    val_set: str, descriptors: Path, radius_m: float, neighbours: int
) -> tuple[Calibration | None, str]:
    """Return the calibration for descriptors that are not centred, and a message to print."""
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
    params = Params.read()
    radius_m, neighbours = params.section(EvaluateParams).positive_radius_m, params.section(IndexParams).neighbours
    val_set = params.value(VAL_SET, str)
    calibration, message = None, f"no confidence: {val_set} is not among eval_sets"
    if val_set in params.eval_sets:
        calibration, message = learn_confidence(val_set, args.descriptors, radius_m, neighbours)
    described = DescribedSet.load(args.descriptors / index_set(params))
    database = described.database
    name = f"{database.manifest.name} {described.name}"
    facts = IndexFacts(file_sha256(args.model), database.manifest.name, name, radius_m)
    write_index(args.index, database.descriptors, database.rows, facts, calibration)
    print(f"{len(database.rows)} images of {described.name}; {message}")


if __name__ == "__main__":
    run_stage(main)
