"""Real photos of one tower (IE Tower, 25 floors) as a custom dataset: write its table and print the command to run.

Data: JSebastianIEU/ie-tower-visual-place-recognition, MIT; a folder with dataset.csv (image, floor, clip, frame,
split). A query is found if its first prediction is on its floor. Training places are windows of 5 frames of a clip
of the gallery: a floor, or a whole clip, shows too many different things to be one place.

Run: python benchmarks/ie_tower.py ../shared/data/ie_tower data/ie_tower.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

FRAMES_PER_PLACE = 5
SETTINGS = {
    "dataset": "custom",
    "eval_sets": "[tower]",
    "loss": "NTXentLoss",
    "export.checkpoint": "last",
    "datasets.custom.train.val_set": "tower",
    "datasets.custom.train.image_size": "[72,128]",
    "datasets.custom.train.lr": "0.001",
    "datasets.custom.train.warmup_steps": "50",
    "datasets.custom.train.max_epochs": "26",
    "datasets.custom.train.milestones": "[16,22]",
    "datasets.custom.train.check_val_every_n_epochs": "13",
    "datasets.custom.train.num_workers": "0",
}


def table(source: pd.DataFrame) -> pd.DataFrame:
    """A row for each image and role: gallery images are training images and database."""
    gallery, queries = source[source["split"] == "gallery"], source[source["split"] == "query"]
    window = gallery["clip"] + "/" + (gallery["frame"] // FRAMES_PER_PLACE).astype(str)
    parts = [
        gallery.assign(split="train", place_id=window),
        gallery.assign(split="tower/database", place_id=gallery["floor"]),
        queries.assign(split="tower/queries", place_id=queries["floor"]),
    ]
    return pd.concat(parts)[["image", "split", "place_id", "floor", "area"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of dataset.csv and images/")
    parser.add_argument("table", type=Path, help="CSV to write")
    args = parser.parse_args()
    table(pd.read_csv(args.folder / "dataset.csv")).to_csv(args.table, index=False)
    places = {"datasets.custom.images.source": args.table, "datasets.custom.images.root": args.folder.resolve()}
    print("dvc exp run --name ie-tower " + " ".join(f"-S '{k}={v}'" for k, v in {**places, **SETTINGS}.items()))


if __name__ == "__main__":
    main()
