"""Stage ``download``: fetch or draw the images, and list them in data/listing.parquet."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import Params
from vpr.data.manifest import write_manifest
from vpr.sources.base import Context, load_dataset
from vpr.sources.params import check_pca, load_only_sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listing", type=Path, required=True)
    parser.add_argument("--catalogue", type=Path, required=True, help="file of the published sets")
    parser.add_argument("--known-hashes", type=Path, required=True, help="file with hashes of earlier downloads")
    parser.add_argument("--root", type=Path, required=True, help="file with the folder of the images")
    args = parser.parse_args()
    params = Params.read()
    dataset, options, _ = load_dataset(params)
    listing = dataset.prepare(options, Context(args.catalogue, args.known_hashes, load_only_sets(params)))
    check_pca(params, len(listing.train()))
    # The manifest does not hold the folder, so that moving the images does not retrain a model.
    args.root.parent.mkdir(parents=True, exist_ok=True)
    args.root.write_text(f"{listing.root}\n", encoding="utf-8")
    write_manifest(replace(listing, root=f"file:{args.root.as_posix()}"), args.listing)
    print(f"{dataset.name}: {len(listing.rows):,} rows, images in {listing.folder}")


if __name__ == "__main__":
    run_stage(main)
