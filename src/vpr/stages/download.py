"""Stage ``download``: the dataset's images -> the images' folder, data/listing.parquet, data/images_root.txt."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.data.manifest import write_manifest
from vpr.sources.base import Context, load_dataset
from vpr.sources.params import load_only_sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listing", type=Path, required=True)
    parser.add_argument("--catalogue", type=Path, required=True, help="file of the published sets")
    parser.add_argument("--known-hashes", type=Path, required=True, help="hashes that earlier downloads had")
    parser.add_argument("--root", type=Path, required=True, help="file that says where the images are")
    args = parser.parse_args()
    dataset, params, _ = load_dataset()
    listing = dataset.prepare(params, Context(args.catalogue, args.known_hashes, load_only_sets()))
    # Where images are is not part of a manifest: another place must not train another model.
    args.root.parent.mkdir(parents=True, exist_ok=True)
    args.root.write_text(f"{listing.root}\n", encoding="utf-8")
    write_manifest(replace(listing, root=f"file:{args.root.as_posix()}"), args.listing)
    print(f"{dataset.name}: {len(listing.rows):,} rows, images in {listing.folder}")


if __name__ == "__main__":
    run_stage(main)
