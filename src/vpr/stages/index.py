"""Stage ``index``: the database of one evaluation set + predictions on the validation set -> data/index.

What ``vpr localize`` and the logged MLflow model answer from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from vpr.calibration import Calibration, elsewhere, features, fit_calibration
from vpr.datasets.checksums import file_sha256
from vpr.datasets.manifest import read_manifest
from vpr.evaluation import labels_of
from vpr.localization import Index
from vpr.params import load_eval_sets, load_evaluate, load_index_set, load_train
from vpr.stages import run

NEIGHBOURS = 20  # predictions of each query that the confidence looks at


def calibrate(
    predictions: pd.DataFrame, database: pd.DataFrame, queries: pd.DataFrame, name: str, radius_m: float
) -> Calibration | None:
    """The confidence, learnt from the predictions on a set; ``None`` where its places are not known."""
    if predictions["is_positive"].isna().any():
        return None
    kept = predictions[predictions["rank"] <= NEIGHBOURS]
    neighbours = int(kept["rank"].max())
    num_queries = kept["query"].nunique()
    rows = database.set_index("image").loc[kept["prediction"]].reset_index()
    distances = kept["descriptor_distance"].to_numpy(dtype=float).reshape(num_queries, -1)
    correct = kept.loc[kept["rank"] == 1, "is_positive"].to_numpy(dtype=bool)
    found = features(distances, elsewhere(rows, num_queries, radius_m))
    kind = labels_of(database, queries)
    means = f"within {radius_m:g} m" if kind == "distance" else "the same place" if kind == "place id" else "a positive"
    return fit_calibration(found, correct, name, means, neighbours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--descriptors", type=Path, required=True, help="folder of <set>/")
    parser.add_argument("--predictions", type=Path, required=True, help="folder of <set>.parquet")
    parser.add_argument("--index", type=Path, required=True)
    args = parser.parse_args()
    sets, val_set, radius_m = load_eval_sets(), load_train().val_set, load_evaluate().positive_radius_m
    chosen = load_index_set()
    calibration, why = None, f"{val_set} is not among eval_sets"
    if val_set in sets:
        predictions = pd.read_parquet(args.predictions / f"{val_set}.parquet")
        database, queries = (
            read_manifest(args.descriptors / val_set / f"{p}.parquet").rows for p in ("database", "queries")
        )
        try:
            calibration = calibrate(predictions, database, queries, val_set, radius_m)
            why = f"{val_set} has no labels"
        except ValueError as error:
            why = str(error)
    rows = read_manifest(args.descriptors / chosen / "database.parquet")
    facts = {"model_sha256": file_sha256(args.model), "name": f"{rows.name} {chosen}", "radius_m": radius_m}
    descriptors = np.load(args.descriptors / chosen / "database.npy", mmap_mode="r")
    Index(descriptors, rows.rows, facts, calibration).save(args.index)
    told = (
        f"confidence learnt on {calibration.num_queries} queries of {val_set}"
        if calibration
        else f"no confidence: {why}"
    )
    print(f"{len(rows.rows)} images of {chosen}; {told}")


if __name__ == "__main__":
    run(main)
