"""Stage ``resize``: data/manifest/train.parquet -> copies of its images at the training size, if they are asked for."""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import load, load_value
from vpr.data.manifest import read_manifest
from vpr.data.params import ResizeParams
from vpr.data.resized import Resized, store_resized


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="of the training images")
    parser.add_argument("--resized", type=Path, required=True, help="file that says where the copies are")
    args = parser.parse_args()
    params = load(ResizeParams)
    resized = Resized()
    if params.quality is not None:
        image_size = load_value("datasets.${dataset}.train.image_size", list[int])
        resized = store_resized(read_manifest(args.manifest), image_size, params.quality, params.num_workers)
    resized.save(args.resized)


if __name__ == "__main__":
    run_stage(main)
