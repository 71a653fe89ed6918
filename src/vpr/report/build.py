"""Build the report of a run from the outputs of the stages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vpr.data.checksums import file_sha256
from vpr.descriptors.described_set import DescribedSet
from vpr.evaluation.predictions import Predictions
from vpr.localization.index_files import read_calibration
from vpr.model.checkpoint import load_checkpoint
from vpr.report.reranking_section import reranking_sections
from vpr.report.sections import Report, TrainingSection
from vpr.report.set_input import SetInput
from vpr.report.set_section import set_section
from vpr.report.thumbnails import THUMB_BYTES, Thumbnails
from vpr.training.cautions import chosen_on_what_is_reported, few_batches
from vpr.training.configuration import flat
from vpr.training.params import UNTRAINED
from vpr.training.summary import TrainingSummary

SHOWN_RECALLS = 2  # in the chart of the validation


def training_section(metrics: Path) -> TrainingSection:
    """Return the training charts.

    Args:
        metrics: Folder of ``training.csv`` and ``validation.csv``.
    """
    steps, epochs = (pd.read_csv(metrics / name) for name in ("training.csv", "validation.csv"))
    if not len(steps):
        return TrainingSection()
    recalls = [column for column in epochs if column.startswith("val_recall_at_")][:SHOWN_RECALLS]
    picked = steps[["step", "informative_share"]].dropna()
    return TrainingSection(
        steps[["step", "loss"]].dropna().values.tolist(),
        picked.values.tolist()
        if (picked["informative_share"] < 1).any()
        else [],  # without a miner, all are informative
        epochs[["epoch", *recalls]].values.tolist(),
        [column.replace("val_recall_at_", "recall@") for column in recalls],
    )


def start_of(summary: TrainingSummary, set_names: Sequence[str]) -> str:
    """Return the set to show first: the first one that is not the validation set, if any."""
    val_set = summary.configuration.train.get("val_set")
    return next((name for name in set_names if name != val_set), set_names[0])


def cautions(summary: TrainingSummary, set_names: Sequence[str], dataset: dict[str, Any]) -> list[str]:
    """Return sentences about what makes the recalls poor or too good.

    Args:
        summary: Summary of the training.
        set_names: Reported sets.
        dataset: Content of ``metrics/dataset.json``.
    """
    train = summary.configuration.train
    if not summary.num_places:  # a checkpoint that was not trained here
        return []
    few = few_batches(summary.num_places, train["places_per_batch"])
    return few + dataset["cautions"] + chosen_on_what_is_reported(train["val_set"], set_names)


def read_json(path: Path) -> dict[str, Any]:
    """Read a metrics file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _origin(summary: TrainingSummary) -> str:
    if summary.checkpoint == UNTRAINED:
        return "not trained: the initial model"
    return f"trained on {summary.configuration.dataset.name}, best epoch {summary.best_epoch}"


def build_report(
    model: Path, models: Path, index: Path, descriptors: Path, predictions: Path, reranked: Path, metrics: Path,
    set_names: Sequence[str], radius_m: float,
) -> Report:  # fmt: skip
    """Gather everything that the page shows.

    Args:
        model: Checkpoint of the evaluated model.
        models: Folder of ``training.json``.
        index: Folder of the index, which holds the calibration.
        descriptors: Folder of ``<set>/``.
        predictions: Folder of ``<set>.parquet``.
        reranked: Folder of ``<set>/``, with drawings of re-ranked queries.
        metrics: Folder of ``recalls/<set>.json``, ``dataset.json`` and the training curves.
        set_names: Evaluation sets to show.
        radius_m: Largest distance of a positive, in metres.
    """
    network, _ = load_checkpoint(model)
    summary, (_, calibration) = TrainingSummary.load(models), read_calibration(index)
    thumbnails = Thumbnails(THUMB_BYTES // len(set_names))
    sections = []
    for name in set_names:
        recalls = read_json(metrics / "recalls" / f"{name}.json")
        described = DescribedSet.load(descriptors / name)
        given = SetInput.of(described, Predictions.load(predictions / f"{name}.parquet"), recalls)
        sections.append(set_section(given, radius_m, calibration, thumbnails, network))
    configuration = summary.configuration
    components = " + ".join(configuration.components)
    reranked_sets, reranking_text = reranking_sections(reranked, read_json(metrics / "reranked.json"))
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
        reranked=reranked_sets,
        reranking_text=reranking_text,
        model_sha256=file_sha256(model),
    )
