"""Stage ``check``: params.yaml -> data/params.ok; builds model, miner and loss before anything is downloaded."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import PARAMS_FILE, check_name, load, load_eval_sets, read_params, reads
from vpr.data.params import ResizeParams
from vpr.localization.params import IndexParams, load_index_set
from vpr.model.device import pick_device
from vpr.model.export import check_export
from vpr.model.params import ExportParams, ExtractParams
from vpr.reranking.params import RerankParams
from vpr.retrieval.params import EvaluateParams
from vpr.retrieval.search import check_search
from vpr.sources.base import Context, check_dataset, load_dataset
from vpr.sources.params import load_only_sets
from vpr.training.build import model_to_check
from vpr.training.cautions import check_training
from vpr.training.configuration import load_configuration
from vpr.training.params import load_train, merge_train
from vpr.verification.params import VerifyParams

SECTIONS = (VerifyParams, ResizeParams, ExportParams, ExtractParams, EvaluateParams, IndexParams, RerankParams)


@reads("dataset", "datasets.${dataset}", "eval_sets", "train", *(section.key for section in SECTIONS))
def check_params(path: Path = PARAMS_FILE, context: Context | None = None) -> None:
    """Parse every section, also those of datasets that are not chosen.

    Raises:
        UserError: for the first wrong key or value, with the valid ones.
    """
    context = replace(context or Context(), only_sets=load_only_sets(path))
    for section in SECTIONS:
        load(section, path)
    for name, block in read_params(path)["datasets"].items():
        check_dataset(name, block, context, f"{path}: datasets")
        merge_train(path, name)
    dataset, params, where = load_dataset(path)
    sets, train = load_eval_sets(path), load_train(path)
    check_name(train.val_set, f"{path}: val_set")
    needed = dict.fromkeys(sets if train.checkpoint else [*sets, train.val_set])
    dataset.check_chosen(params, context, where, list(needed))
    load_index_set(path)
    check_training(train, dataset.num_places(params, context), sets, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ok", type=Path, required=True)
    parser.add_argument("--catalogue", type=Path, required=True, help="file of the published sets")
    args = parser.parse_args()
    check_params(context=Context(catalogue=args.catalogue))
    configuration, export = load_configuration(), load(ExportParams)
    for accelerator in (configuration.settings.accelerator, load(ExtractParams).accelerator):
        pick_device(accelerator)
    model = model_to_check(configuration)
    check_export(model, export)
    check_search(load(EvaluateParams), export.pca_dim or model.descriptor_dim)
    args.ok.parent.mkdir(parents=True, exist_ok=True)
    args.ok.write_text("params.yaml: every name, key and option is known\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
