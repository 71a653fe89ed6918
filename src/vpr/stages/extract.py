"""Stage ``extract``: the model + one evaluation set -> data/descriptors/<set>/."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from vpr.datasets.checksums import file_sha256
from vpr.datasets.images import Preprocess
from vpr.datasets.manifest import DATABASE, QUERY, Manifest, read_manifest, write_manifest
from vpr.datasets.retrieval_set import ImageList, image_loader
from vpr.extraction import extract, pick_device
from vpr.model import load_checkpoint
from vpr.params import load_extract
from vpr.stages import run

PARTS = {"database": DATABASE, "queries": QUERY}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--set", required=True, help="name of the evaluation set")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    params = load_extract()
    model, notes = load_checkpoint(args.model)
    manifest = read_manifest(args.manifest)
    spec = model.spec
    preprocess = Preprocess(spec.image_size, spec.mean, spec.std)
    args.out.mkdir(parents=True, exist_ok=True)
    for part, role in PARTS.items():
        rows = manifest.part(args.set, role)
        images = ImageList(manifest.folder, rows["image"], preprocess)
        out = open_memmap(args.out / f"{part}.npy", "w+", np.float32, (len(rows), model.descriptor_dim))
        extract(
            model,
            image_loader(images, params.batch_size, params.num_workers),
            out,
            pick_device(params.accelerator),
            f"{args.set} {part}",
        )
        out.flush()
        write_manifest(Manifest(manifest.name, manifest.root, rows), args.out / f"{part}.parquet")
    facts = {
        "checkpoint": notes["checkpoint"],
        "model_sha256": file_sha256(args.model),
        "backbone": spec.backbone,
        "aggregator": spec.aggregator,
        "image_height_px": spec.image_size[0],
        "image_width_px": spec.image_size[1],
        "descriptor_dim": model.descriptor_dim,
    }
    (args.out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
