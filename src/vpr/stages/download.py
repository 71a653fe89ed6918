"""Stage ``download``: the dataset's images -> the images' folder, and data/listing.parquet."""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.datasets.adapters import obtain
from vpr.datasets.manifest import write_manifest
from vpr.params import load_dataset, load_sources
from vpr.stages import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listing", type=Path, required=True)
    parser.add_argument("--known-hashes", type=Path, required=True, help="hashes that earlier downloads had")
    args = parser.parse_args()
    name, params = load_dataset()
    listing = obtain(name, params, load_sources(), args.known_hashes)
    write_manifest(listing, args.listing)
    print(f"{name}: {len(listing.rows):,} rows, images in {listing.folder}")


if __name__ == "__main__":
    run(main)
