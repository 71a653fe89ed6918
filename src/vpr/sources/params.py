"""What the keys of ``params.yaml`` ask of any dataset."""

from __future__ import annotations

from pathlib import Path

from vpr.config.params import PARAMS_FILE, load_eval_sets, load_value, reads


@reads("eval_sets", "train.checkpoint", "export.pca_dim")
def load_only_sets(path: Path = PARAMS_FILE) -> tuple[str, ...] | None:
    """``Context.only_sets``: PCA is fitted on training images, so it needs these as well."""
    checkpoint = load_value("train.checkpoint", str | None, path)
    pca_dim = load_value("export.pca_dim", int | None, path)
    return tuple(load_eval_sets(path)) if checkpoint is not None and pca_dim is None else None
