"""Stage ``extract``: the model + one evaluation set -> data/descriptors/<set>/."""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import load
from vpr.data.described_set import DescribedSet
from vpr.data.loading import ImageList
from vpr.data.manifest import read_manifest
from vpr.model.checkpoint import load_checkpoint
from vpr.model.device import pick_device
from vpr.model.extraction import extract
from vpr.model.params import ExtractParams
from vpr.model.ray_extraction import extract_with_ray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--set", required=True, help="name of the evaluation set")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    params = load(ExtractParams)
    device = pick_device(params.accelerator)
    model, _ = load_checkpoint(args.model)
    spec = model.spec
    facts = {
        "image_height_px": spec.image_size[0],
        "image_width_px": spec.image_size[1],
        "descriptor_dim": model.descriptor_dim,
    }
    described = DescribedSet.create(args.out, read_manifest(args.manifest), args.set, facts)
    for title, part in (("database", described.database), ("queries", described.queries)):
        images = ImageList(part.manifest.folder, part.rows["image"], spec.preprocess())
        title = f"{args.set} {title}"
        if params.engine == "ray":
            hashes = part.rows["sha256"].to_list()
            extract_with_ray(args.model, images, hashes, part.descriptors, params.accelerator, params.batch_size, title)
        else:
            extract(model, images, part.descriptors, device, params.batch_size, params.num_workers, title)
        part.flush()


if __name__ == "__main__":
    run_stage(main)
