"""Stage ``check``: check params.yaml, and build model, miner and loss, before anything is downloaded."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vpr.config.errors import UserError, run_stage
from vpr.config.params import Params, Section, check_name, reads
from vpr.data.resized import ResizeParams
from vpr.descriptors.evaluated_model import check_export
from vpr.descriptors.params import ExportParams, ExtractParams
from vpr.localization.params import IndexParams, index_set
from vpr.model.checkpoint import load_checkpoint
from vpr.model.device import pick_device
from vpr.model.vpr_model import VPRModel
from vpr.reranking.params import RerankParams
from vpr.retrieval.params import EvaluateParams
from vpr.retrieval.search import check_search
from vpr.sources.base import Context, check_dataset, load_dataset
from vpr.sources.params import check_pca, load_only_sets
from vpr.training.build import check_model
from vpr.training.cautions import check_training
from vpr.training.configuration import load_configuration
from vpr.training.params import load_checkpoint_path, load_train, merge_train
from vpr.verification.params import VerifyParams

# All sections of params.yaml but ``train``, part of which is in the blocks of datasets.
SECTION_CLASSES: tuple[type[Section], ...] = (
    VerifyParams, ResizeParams, ExportParams, ExtractParams, EvaluateParams, IndexParams, RerankParams,
)  # fmt: skip


@reads("dataset", "datasets.${dataset}", "eval_sets", "train", *(section.key for section in SECTION_CLASSES))
def check_params(params: Params, context: Context | None = None) -> None:
    """Parse every section, and the blocks of all datasets.

    Raises:
        UserError: for the first invalid key or value, with the valid ones.
    """
    context = replace(context or Context(), only_sets=load_only_sets(params))
    for section in SECTION_CLASSES:
        params.section(section)
    for name, block in params.content["datasets"].items():
        check_dataset(name, block, context, f"{params.path}: datasets")
        merge_train(params, name)
    dataset, options, where = load_dataset(params)
    sets, val_set = params.eval_sets, params.value("train.val_set", str)
    check_name(val_set, f"{params.path}: train.val_set")
    settings = load_train(params) if load_checkpoint_path(params) is None else None
    needed = dict.fromkeys(sets if settings is None or settings.checkpoint else [*sets, val_set])
    dataset.check_chosen(options, context, where, list(needed))
    index_set(params)
    check_pca(params, dataset.num_images(options, context))
    if settings is not None:
        check_training(settings, dataset.num_places(options, context), params)


def model_to_evaluate(params: Params) -> VPRModel:
    """Load the given checkpoint, or build the model and try what the training will do.

    Raises:
        UserError: if the checkpoint cannot be used, or the training cannot run.
    """
    checkpoint = load_checkpoint_path(params)
    if checkpoint is None:
        configuration = load_configuration(params)
        pick_device(configuration.settings.accelerator)
        return check_model(configuration, params)
    if (checkpoint.parent / "training.json").is_file() and checkpoint.resolve().is_relative_to(Path.cwd()):
        raise UserError(
            f"{params.path}: train.checkpoint is {str(checkpoint)!r}, in the folder that the train stage empties; copy "
            "the file elsewhere and use that path"
        )
    return load_checkpoint(checkpoint)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ok", type=Path, required=True)
    parser.add_argument("--catalogue", type=Path, required=True, help="file of the published sets")
    args = parser.parse_args()
    params = Params.read()
    check_params(params, Context(catalogue=args.catalogue))
    export = params.section(ExportParams)
    pick_device(params.section(ExtractParams).accelerator)
    model = model_to_evaluate(params)
    check_export(model, export)
    check_search(params.section(EvaluateParams), export.pca_dim or model.descriptor_dim)
    args.ok.parent.mkdir(parents=True, exist_ok=True)
    args.ok.write_text("params.yaml: all names, keys and options are valid\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
