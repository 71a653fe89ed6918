"""Stage ``export``: data/models -> data/model.ckpt, the model as it is evaluated and used.

The best or the last checkpoint, at the image size it was trained at or another, with PCA or without: what changes
after training, and so costs no training.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from vpr.datasets.images import Preprocess
from vpr.datasets.manifest import read_manifest
from vpr.datasets.retrieval_set import ImageList, image_loader
from vpr.extraction import extract, pick_device
from vpr.model import VPRModel, at_image_size, load_checkpoint, save_checkpoint
from vpr.params import ExportParams, load_export, load_extract
from vpr.projection import fit_projection
from vpr.stages import run


def with_pca(model: VPRModel, dim: int, params: ExportParams, manifest_path: Path, scratch: Path) -> VPRModel:
    """The model with a projection fitted on descriptors of training images.

    Raises:
        ValueError: if there are no training images, or the model has a projection.
    """
    manifest, extraction, spec = read_manifest(manifest_path), load_extract(), model.spec
    rows = manifest.train()
    if rows.empty:
        raise ValueError(f"params.yaml: export.pca_dim is {dim}, but dataset {manifest.name} has no training images")
    rng = np.random.default_rng(params.seed)
    chosen = np.sort(rng.choice(len(rows), min(params.pca_images, len(rows)), replace=False))
    images = ImageList(manifest.folder, rows["image"].iloc[chosen], Preprocess(spec.image_size, spec.mean, spec.std))
    out = open_memmap(scratch, "w+", np.float32, (len(images), model.descriptor_dim))
    try:
        extract(
            model,
            image_loader(images, extraction.batch_size, extraction.num_workers),
            out,
            pick_device(extraction.accelerator),
            "descriptors for PCA",
        )
        projection = fit_projection(out, dim, params.whiten)
    finally:
        scratch.unlink()
    projected = VPRModel(replace(spec, pca_dim=dim)).eval()
    state = {f"projection.{name}": value for name, value in projection.state_dict().items()}
    projected.load_state_dict({**model.cpu().state_dict(), **state})
    return projected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of best.ckpt and last.ckpt")
    parser.add_argument("--manifest", type=Path, required=True, help="of the training images")
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args()
    params = load_export()
    model, notes = load_checkpoint(args.models / f"{params.checkpoint}.ckpt")
    if params.image_size is not None:
        model = at_image_size(model, (params.image_size[0], params.image_size[1]), "export.image_size")
    if params.pca_dim is not None:
        if model.spec.pca_dim is not None:
            raise ValueError(
                f"params.yaml: export.pca_dim is {params.pca_dim}, but the model has PCA already; set it to null"
            )
        model = with_pca(model, params.pca_dim, params, args.manifest, args.model.with_suffix(".npy"))
    save_checkpoint(args.model, model.spec, model.state_dict(), {**notes, "checkpoint": params.checkpoint})
    height, width = model.spec.image_size
    print(f"{params.checkpoint} checkpoint, images of {height} x {width}, descriptor {model.descriptor_dim}")


if __name__ == "__main__":
    run(main)
