"""Evaluate a model on a folder of images in the standard VPR naming, with the library alone.

Run `python examples/evaluate.py data/model.ckpt FOLDER`. FOLDER holds `database` and `queries`; each image is named
`@utm_east@utm_north@zone@band@...@.jpg`. Recalls equal those of `dvc repro` for the same images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import vpr
from vpr.retrieval.positives import positives_of
from vpr.retrieval.recall import recall_at
from vpr.retrieval.search import search
from vpr.sources.image_files import list_images
from vpr.sources.standard_naming import parse_name


def read_images(folder: Path) -> pd.DataFrame:
    """Return a row for each image below a folder, with its position."""
    names = list_images(folder)
    fields = [parse_name(name) for name in names]
    positions = [(each.utm_east, each.utm_north, each.utm_zone) for each in fields]
    rows = pd.DataFrame(positions, columns=["utm_east", "utm_north", "utm_zone"])
    return rows.assign(path=[folder / name for name in names], place_id="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="path or name of a model, such as data/model.ckpt or megaloc")
    parser.add_argument("folder", type=Path, help="folder of database and queries")
    parser.add_argument("--radius-m", type=float, default=25.0, help="largest distance of a positive, in metres")
    args = parser.parse_args()

    model = vpr.load(args.model)
    database, queries = read_images(args.folder / "database"), read_images(args.folder / "queries")
    descriptors = [model.describe(rows["path"], show_progress=True) for rows in (database, queries)]
    ranking, _ = search(*descriptors, 20)
    positives = positives_of(database, queries, args.radius_m)
    for n, recall in recall_at(ranking, positives or [], [1, 5, 10, 20]).items():
        print(f"recall@{n} {100 * recall:.1f} %")


if __name__ == "__main__":
    main()
