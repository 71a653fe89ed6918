"""Stage ``train``: data/manifest -> data/models/{best,last}.ckpt, metrics/training.csv, metrics/validation.csv."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from vpr.config.errors import run_stage
from vpr.config.params import load
from vpr.data.checksums import file_sha256
from vpr.data.manifest import read_manifest
from vpr.data.resized import Resized
from vpr.experiments.live import TrainingRun
from vpr.retrieval.params import EvaluateParams
from vpr.training.configuration import load_configuration
from vpr.training.params import UNTRAINED
from vpr.training.run import run_key, train_model, use_checkpoint, use_untrained


def write_history(history: pd.DataFrame, curve: Path, validations: Path, recall_at: list[int]) -> None:
    """Write the rows of the steps and those of the validations, each with their own columns."""
    recalls = [f"val_recall_at_{n}" for n in recall_at]
    history = history.reindex(columns=[*dict.fromkeys(["step", "epoch", *history.columns, *recalls])])
    steps = history[history["loss"].notna()].drop(columns=recalls)
    of_validation = history.loc[history["loss"].isna(), ["step", "epoch", *recalls]]
    for path, rows in ((curve, steps), (validations, of_validation)):
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_csv(path, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="of the training images")
    parser.add_argument("--validation-manifest", type=Path, required=True)
    parser.add_argument("--resized", type=Path, required=True, help="file that says where copies of the images are")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--curve", type=Path, required=True)
    parser.add_argument("--validations", type=Path, required=True)
    args = parser.parse_args()
    manifest, validation = read_manifest(args.manifest), read_manifest(args.validation_manifest)
    configuration = load_configuration().trained_on(manifest.metadata.get("options", {}))
    settings, radius_m = configuration.settings, load(EvaluateParams).positive_radius_m
    digest = file_sha256(args.manifest)[:16]
    if settings.checkpoint == UNTRAINED:
        history, summary = use_untrained(configuration, args.models, digest)
    elif settings.checkpoint is not None:
        history, summary = use_checkpoint(Path(settings.checkpoint), args.models, digest)
    else:
        key = run_key(configuration, [args.manifest, args.validation_manifest, args.resized], radius_m)
        trained = train_model(
            configuration, manifest, validation, Resized.load(args.resized), radius_m, key, digest, args.models,
            TrainingRun,
        )  # fmt: skip
        if trained is None:  # the first rank writes
            return
        history, summary = trained
    write_history(history, args.curve, args.validations, settings.val_recall_at)
    summary.save(args.models)


if __name__ == "__main__":
    run_stage(main)
