"""Stage ``check``: params.yaml -> data/params.ok, before anything is downloaded.

Builds model, miner and loss as the train stage will, so that a misspelt name, an option out of range
or a combination that cannot fit in memory costs seconds, not a download.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vpr.configuration import build_criterion, build_model, load_configuration, try_criterion
from vpr.datasets.download import check_url
from vpr.extraction import pick_device
from vpr.model import VPRModel, at_image_size, load_checkpoint
from vpr.params import check_all, load_eval_sets, load_evaluate, load_export, load_extract, load_used_sources
from vpr.retrieval import require_faiss_gpu
from vpr.stages import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ok", type=Path, required=True)
    args = parser.parse_args()
    check_all()
    for name, source in load_used_sources().items():
        check_url(f"params.yaml: sources.{name}", source.url or "")
    configuration = load_configuration()
    train = configuration.train
    for accelerator in (train.accelerator, load_extract().accelerator):
        pick_device(accelerator)
    require_faiss_gpu(load_evaluate().faiss_gpu)
    if train.checkpoint is None:
        # ImageNet weights are not needed to check the rest, and may take a download.
        weights = None if train.weights == "imagenet" else train.weights
        model: VPRModel = build_model(replace(configuration, train=replace(train, weights=weights)))
        try_criterion(
            build_criterion(configuration, model, num_places=max(4, train.places_per_batch)), model.descriptor_dim
        )
    else:
        checkpoint = Path(train.checkpoint)
        if (checkpoint.parent / "training.json").is_file() and checkpoint.resolve().is_relative_to(Path.cwd()):
            raise ValueError(
                f"params.yaml: train.{configuration.dataset}.checkpoint is {str(checkpoint)!r}, in the folder that the "
                "train stage empties; copy it to another place and name that"
            )
        model, _ = load_checkpoint(checkpoint)
    export = load_export()
    if export.image_size is not None:
        model = at_image_size(model, (export.image_size[0], export.image_size[1]), "export.image_size")
    if export.pca_dim is not None:
        most = min(model.descriptor_dim, export.pca_images - 1)
        has = "PCA already" if model.spec.pca_dim is not None else f"descriptors of {model.descriptor_dim}"
        if model.spec.pca_dim is not None or export.pca_dim > most:
            raise ValueError(
                f"params.yaml: export.pca_dim is {export.pca_dim}, but the model has {has} and pca_images is "
                f"{export.pca_images}; lower it, raise pca_images, or set it to null"
            )
    sets = load_eval_sets()
    if train.checkpoint is None and train.val_set not in sets:
        print(f"note: training validates on {train.val_set}, which is not among eval_sets {sets}")
    args.ok.parent.mkdir(parents=True, exist_ok=True)
    args.ok.write_text("params.yaml: every name, key and option is known\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
