"""Stage ``extract``: describe the images of one evaluation set, into data/descriptors/<set>/."""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import Params
from vpr.data.manifest import read_manifest
from vpr.descriptors.described_set import DescribedSet
from vpr.descriptors.params import ExtractParams
from vpr.descriptors.ray_extraction import extract_with_ray
from vpr.descriptors.trained_model import Model
from vpr.model.device import pick_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the evaluation set")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--set", required=True, help="name of the evaluation set")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    params = Params.read().section(ExtractParams)
    model = Model(args.model, pick_device(params.accelerator))
    height, width = model.image_size
    facts = {"image_height_px": height, "image_width_px": width, "descriptor_dim": model.descriptor_dim}
    described = DescribedSet.create(args.out, read_manifest(args.manifest), args.set, facts)
    for role, part in (("database", described.database), ("queries", described.queries)):
        images, title = model.images(part.manifest.folder, part.rows["image"]), f"{args.set} {role}"
        if params.engine == "ray":
            hashes = part.rows["sha256"].to_list()
            extract_with_ray(args.model, images, hashes, part.descriptors, params.accelerator, params.batch_size, title)
        else:
            model.describe(images, params.batch_size, True, params.num_workers, part.descriptors, title)
        part.flush()


if __name__ == "__main__":
    run_stage(main)
