"""The model as it is evaluated and used: the trained one, possibly at another image size or with PCA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vpr.config.errors import UserError
from vpr.data.loading import ImageList
from vpr.data.manifest import Manifest
from vpr.descriptors.arrays import create_array
from vpr.descriptors.params import ExportParams, ExtractParams
from vpr.model.describing import Describer
from vpr.model.device import pick_device
from vpr.model.projection import fit_projection
from vpr.model.vpr_model import VPRModel, at_image_size


def evaluated_model(
    model: VPRModel, params: ExportParams, extraction: ExtractParams, manifest: Manifest, scratch: Path
) -> VPRModel:
    """Apply the image size and the PCA that ``export`` of ``params.yaml`` asks for.

    Args:
        model: The trained model.
        params: Section ``export``.
        extraction: Section ``extract``.
        manifest: Manifest of the training images, on which PCA is fitted.
        scratch: File for their descriptors while PCA is fitted.
    """
    if params.image_size is not None:
        model = at_image_size(model, (params.image_size[0], params.image_size[1]), "export.image_size")
    if params.pca_dim is None:
        return model
    if model.spec.pca_dim is not None:
        raise UserError(
            f"params.yaml: export.pca_dim is {params.pca_dim}, but the model has PCA already; set it to null"
        )
    return _with_pca(model, params.pca_dim, params, extraction, manifest, scratch)


def _with_pca(
    model: VPRModel, dim: int, params: ExportParams, extraction: ExtractParams, manifest: Manifest, scratch: Path
) -> VPRModel:
    """Add a projection to ``dim`` numbers that is fitted on descriptors of training images.

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
        describer = Describer(model, pick_device(extraction.accelerator))
        describer.describe(images, out, extraction.batch_size, extraction.num_workers, "descriptors for PCA")
        projection = fit_projection(out, dim, params.whiten)
    finally:
        scratch.unlink()
    projected = VPRModel(replace(model.spec, pca_dim=dim)).eval()
    state = {f"projection.{name}": value for name, value in projection.state_dict().items()}
    projected.load_state_dict({**model.cpu().state_dict(), **state})
    return projected


def check_export(model: VPRModel, params: ExportParams) -> None:
    """Refuse an image size or a PCA that does not fit the model, before it is trained."""
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
