"""Stage ``train``: train a model, and write its checkpoints and training curves."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from vpr.config.errors import run_stage
from vpr.config.params import Params
from vpr.experiments.live import TrainingRun
from vpr.retrieval.params import EvaluateParams
from vpr.training.configuration import load_configuration
from vpr.training.params import UNTRAINED, load_checkpoint_path
from vpr.training.run import TrainingData, train_model, use_checkpoint, use_untrained


def write_history(history: pd.DataFrame, curve: Path, validations: Path, recall_at: list[int]) -> None:
    """Write the rows of steps and the rows of validations, each with their own columns."""
    recalls = [f"val_recall_at_{n}" for n in recall_at]
    history = history.reindex(columns=[*dict.fromkeys(["step", "epoch", *history.columns, *recalls])])
    steps = history[history["loss"].notna()].drop(columns=recalls)
    epochs = history.loc[history["loss"].isna(), ["step", "epoch", *recalls]]
    for path, rows in ((curve, steps), (validations, epochs)):
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_csv(path, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the training images")
    parser.add_argument("--validation-manifest", type=Path, required=True)
    parser.add_argument("--resized", type=Path, required=True, help="file with the folder of resized copies")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--curve", type=Path, required=True)
    parser.add_argument("--validations", type=Path, required=True)
    args = parser.parse_args()
    params = Params.read()
    radius_m = params.section(EvaluateParams).positive_radius_m
    data = TrainingData.read(args.manifest, args.validation_manifest, args.resized, radius_m)
    checkpoint = load_checkpoint_path(params)
    if checkpoint is not None:
        history, summary = use_checkpoint(checkpoint, args.models, data.digest)
    else:
        configuration = load_configuration(params).trained_on(data.manifest.metadata.get("options", {}))
        if configuration.settings.checkpoint == UNTRAINED:
            history, summary = use_untrained(configuration, args.models, data.digest)
        else:
            trained = train_model(configuration, data, args.models, TrainingRun)
            if trained is None:  # only the first rank writes
                return
            history, summary = trained
    write_history(history, args.curve, args.validations, params.value("train.val_recall_at", list[int]))
    summary.save(args.models)


if __name__ == "__main__":
    run_stage(main)
