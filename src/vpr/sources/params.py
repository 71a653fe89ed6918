"""Keys of ``params.yaml`` that decide which parts of a dataset are fetched, and that its size has to fit."""

from __future__ import annotations

from vpr.config.errors import UserError
from vpr.config.params import Params, reads


@reads("eval_sets", "train.checkpoint", "export.pca_dim")
def load_only_sets(params: Params) -> tuple[str, ...] | None:
    """Return ``Context.only_sets``. PCA is fitted on training images, so with PCA these are fetched too."""
    checkpoint = params.value("train.checkpoint", str | None)
    pca_dim = params.value("export.pca_dim", int | None)
    return tuple(params.eval_sets) if checkpoint is not None and pca_dim is None else None


@reads("export.pca_dim")
def check_pca(params: Params, num_images: int | None) -> None:
    """Refuse a PCA with more dimensions than the training images can determine, before training.

    Args:
        params: Content of ``params.yaml``.
        num_images: Largest possible number of training images; ``None`` if it is unknown.
    """
    pca_dim = params.value("export.pca_dim", int | None)
    if pca_dim is not None and num_images is not None and pca_dim >= num_images:
        raise UserError(
            f"{params.path}: export.pca_dim is {pca_dim}, but {num_images:,} training images vary in at most "
            f"{max(0, num_images - 1):,} directions; lower it, or set it to null"
        )
