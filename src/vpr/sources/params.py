"""Keys of ``params.yaml`` that decide which parts of a dataset are fetched."""

from __future__ import annotations

from vpr.config.params import Params, reads


@reads("eval_sets", "train.checkpoint", "export.pca_dim")
def load_only_sets(params: Params) -> tuple[str, ...] | None:
    """Return ``Context.only_sets``. PCA is fitted on training images, so with PCA these are fetched too."""
    checkpoint = params.value("train.checkpoint", str | None)
    pca_dim = params.value("export.pca_dim", int | None)
    return tuple(params.eval_sets) if checkpoint is not None and pca_dim is None else None
