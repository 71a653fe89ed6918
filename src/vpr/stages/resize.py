"""Stage ``resize``: store copies of the training images at the training size, if ``resize.quality`` asks for it."""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import Params
from vpr.data.manifest import read_manifest
from vpr.data.resized import Resized, ResizeParams, store_resized


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the training images")
    parser.add_argument("--resized", type=Path, required=True, help="file with the folder of the copies")
    args = parser.parse_args()
    content = Params.read()
    params, resized = content.section(ResizeParams), Resized()
    if params.quality is not None and content.raw("datasets.${dataset}.train") is not None:
        image_size = content.value("datasets.${dataset}.train.image_size", list[int])
        resized = store_resized(read_manifest(args.manifest), image_size, params.quality, params.num_workers)
    resized.save(args.resized)


if __name__ == "__main__":
    run_stage(main)
