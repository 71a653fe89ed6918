"""Stage ``download``: the dataset's images -> the images' folder, data/listing.parquet, data/images_root.txt."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vpr.datasets.adapters import obtain
from vpr.datasets.manifest import write_manifest
from vpr.params import load_dataset, load_sources
from vpr.stages import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listing", type=Path, required=True)
    parser.add_argument("--known-hashes", type=Path, required=True, help="hashes that earlier downloads had")
    parser.add_argument("--root", type=Path, required=True, help="file that says where the images lie")
    args = parser.parse_args()
    name, params = load_dataset()
    listing = obtain(name, params, load_sources(), args.known_hashes)
    # Where images lie is no part of a manifest: other places must not train another model.
    args.root.parent.mkdir(parents=True, exist_ok=True)
    args.root.write_text(f"{listing.root}\n", encoding="utf-8")
    write_manifest(replace(listing, root=f"file:{args.root.as_posix()}"), args.listing)
    print(f"{name}: {len(listing.rows):,} rows, images in {listing.folder}")


if __name__ == "__main__":
    run(main)
