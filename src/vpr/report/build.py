"""What the stages left -> the report of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vpr.data.checksums import file_sha256
from vpr.data.described_set import DescribedSet
from vpr.localization.index import load_index
from vpr.model.checkpoint import load_checkpoint
from vpr.report.second_look import second_look_sections
from vpr.report.sections import Report, TrainingSection
from vpr.report.set_section import SetInput, set_section
from vpr.report.thumbnails import THUMB_BYTES, Thumbnails
from vpr.retrieval.predictions import Predictions
from vpr.training.cautions import chosen_on_what_is_reported, few_batches
from vpr.training.configuration import flat
from vpr.training.params import UNTRAINED
from vpr.training.summary import TrainingSummary

SHOWN_RECALLS = 2  # of the validation, in its chart


def training_section(metrics: Path) -> TrainingSection:
    """The training charts.

    Args:
        metrics: folder of ``training.csv`` and ``validation.csv``.
    """
    steps, epochs = (pd.read_csv(metrics / name) for name in ("training.csv", "validation.csv"))
    if not len(steps):
        return TrainingSection()
    recalls = [column for column in epochs if column.startswith("val_recall_at_")][:SHOWN_RECALLS]
    picked = steps[["step", "informative_share"]].dropna()
    return TrainingSection(
        steps[["step", "loss"]].dropna().values.tolist(),
        picked.values.tolist() if (picked["informative_share"] < 1).any() else [],  # without a miner it is all of them
        epochs[["epoch", *recalls]].values.tolist(),
        [column.replace("val_recall_at_", "recall@") for column in recalls],
    )


def start_of(summary: TrainingSummary, set_names: Sequence[str]) -> str:
    """The set to show first: one that nothing was chosen on, where there is one."""
    val_set = summary.configuration.train.get("val_set")
    return next((name for name in set_names if name != val_set), set_names[0])


def cautions(summary: TrainingSummary, set_names: Sequence[str], dataset: dict[str, Any]) -> list[str]:
    """What makes the recalls poor or too good, in sentences.

    Args:
        dataset: ``metrics/dataset.json``.
    """
    train = summary.configuration.train
    if not summary.num_places:  # a checkpoint that was taken as it is
        return []
    few = few_batches(summary.num_places, train["places_per_batch"])
    return few + dataset["cautions"] + chosen_on_what_is_reported(train["val_set"], set_names)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a metrics file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _origin(summary: TrainingSummary) -> str:
    if summary.checkpoint == UNTRAINED:
        return "not trained: the model as a training would begin with it"
    return f"trained on {summary.configuration.dataset.name}, best epoch {summary.best_epoch}"


def build_report(
    model: Path, models: Path, index: Path, descriptors: Path, predictions: Path, reranked: Path, metrics: Path,
    set_names: Sequence[str], radius_m: float,
) -> Report:  # fmt: skip
    """Gather everything that the page shows.

    Args:
        model: checkpoint of the model that was evaluated.
        models: folder of ``training.json``.
        index: holds the calibration.
        descriptors: folder of ``<set>/``.
        predictions: folder of ``<set>.parquet``.
        reranked: folder of ``<set>/``, drawings of a second look.
        metrics: folder of ``recalls/<set>.json``, ``dataset.json`` and the training curves.
        set_names: evaluation sets to show.
        radius_m: a database image within it is a positive.
    """
    network, _ = load_checkpoint(model)
    summary, calibration = TrainingSummary.load(models), load_index(index).calibration
    thumbnails = Thumbnails(THUMB_BYTES // len(set_names))
    sections = []
    for name in set_names:
        recalls = read_json(metrics / "recalls" / f"{name}.json")
        described = DescribedSet.load(descriptors / name)
        given = SetInput.of(described, Predictions.load(predictions / f"{name}.parquet"), recalls)
        sections.append(set_section(given, radius_m, calibration, thumbnails, network))
    configuration = summary.configuration
    components = " + ".join(configuration.components)
    looks, look_text = second_look_sections(reranked, read_json(metrics / "reranked.json"))
    return Report(
        title=f"{components} on {given.queries.name}",
        subtitle=_origin(summary),
        configuration=[(key, str(value)) for key, value in flat(configuration.as_dict()).items()],
        runs=[components],
        sets=sections,
        thumbs=thumbnails.encoded,
        training=training_section(metrics),
        start=start_of(summary, set_names),
        notes=cautions(summary, set_names, read_json(metrics / "dataset.json")),
        second_look=looks,
        second_look_text=look_text,
        model_sha256=file_sha256(model),
    )
