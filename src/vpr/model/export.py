"""The trained model as it is evaluated and used: at another image size, or with PCA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vpr.config.errors import UserError
from vpr.data.arrays import create_array
from vpr.data.loading import ImageList
from vpr.data.manifest import Manifest
from vpr.model.device import pick_device
from vpr.model.extraction import extract
from vpr.model.params import ExportParams, ExtractParams
from vpr.model.projection import fit_projection
from vpr.model.vpr_model import VPRModel, at_image_size


def exported(
    model: VPRModel, params: ExportParams, extraction: ExtractParams, manifest: Manifest, scratch: Path
) -> VPRModel:
    """The model at the image size and with the PCA that ``export`` of ``params.yaml`` asks for.

    Args:
        manifest: of the training images, which PCA is fitted on.
        scratch: file for their descriptors while it is fitted.
    """
    if params.image_size is not None:
        model = at_image_size(model, (params.image_size[0], params.image_size[1]), "export.image_size")
    if params.pca_dim is None:
        return model
    if model.spec.pca_dim is not None:
        raise UserError(
            f"params.yaml: export.pca_dim is {params.pca_dim}, but the model has PCA already; set it to null"
        )
    return with_pca(model, params.pca_dim, params, extraction, manifest, scratch)


def with_pca(
    model: VPRModel, dim: int, params: ExportParams, extraction: ExtractParams, manifest: Manifest, scratch: Path
) -> VPRModel:
    """The model with a projection to ``dim`` numbers fitted on descriptors of training images; see ``exported``.

    Raises:
        UserError: if there are no training images.
    """
    rows = manifest.train()
    if rows.empty:
        raise UserError(f"params.yaml: export.pca_dim is {dim}, but dataset {manifest.name} has no training images")
    rng = np.random.default_rng(params.seed)
    chosen = np.sort(rng.choice(len(rows), min(params.pca_images, len(rows)), replace=False))
    images = ImageList(manifest.folder, rows["image"].iloc[chosen], model.spec.preprocess())
    out = create_array(scratch, (len(images), model.descriptor_dim))
    try:
        device = pick_device(extraction.accelerator)
        extract(model, images, out, device, extraction.batch_size, extraction.num_workers, "descriptors for PCA")
        projection = fit_projection(out, dim, params.whiten)
    finally:
        scratch.unlink()
    projected = VPRModel(replace(model.spec, pca_dim=dim)).eval()
    state = {f"projection.{name}": value for name, value in projection.state_dict().items()}
    projected.load_state_dict({**model.cpu().state_dict(), **state})
    return projected


def check_export(model: VPRModel, params: ExportParams) -> None:
    """Refuse an image size or PCA that the model can't have, before it is trained."""
    if params.image_size is not None:
        at_image_size(model, (params.image_size[0], params.image_size[1]), "export.image_size")
    if params.pca_dim is None:
        return
    has = "PCA already" if model.spec.pca_dim is not None else f"descriptors of {model.descriptor_dim}"
    if model.spec.pca_dim is not None or params.pca_dim > min(model.descriptor_dim, params.pca_images - 1):
        raise UserError(
            f"params.yaml: export.pca_dim is {params.pca_dim}, but the model has {has} and pca_images is "
            f"{params.pca_images}; lower it, raise pca_images, or set it to null"
        )
