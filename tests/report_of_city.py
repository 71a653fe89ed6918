"""A report of the tiny city: predictions of models of random weights, and the sections that show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vpr.data.loading import ImageList
from vpr.data.manifest import DATABASE, QUERY, Manifest
from vpr.evaluation.evaluation import evaluate_ranking
from vpr.localization.confidence import Calibration
from vpr.model.describing import Describer
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.report.sections import Report, SetSection, TrainingSection
from vpr.report.set_input import SetInput
from vpr.report.set_section import set_section
from vpr.report.thumbnails import Thumbnails
from vpr.retrieval.search import search

SPEC = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(24, 32))
CALIBRATION = Calibration("city", "val", 100, "within 25 m", 20, (0.1, 0.1), (0.1, 0.1), (-1.0, 1.0), 0.0, 9.0)
TRAINING = TrainingSection(
    loss=[[1, 2.0], [2, 1.0]],
    informative=[[1, 0.9], [2, 0.8]],
    validation=[[1, 0.2, 0.4]],
    recalls=["recall@1", "recall@5"],
)


def evaluated(city: Manifest, seed: int) -> tuple[VPRModel, SetInput]:
    """The predictions of a model of random weights."""
    torch.manual_seed(seed)
    model = VPRModel(SPEC).eval()
    parts = [city.part("val", role) for role in (DATABASE, QUERY)]
    descriptors = []
    for rows in parts:
        images = ImageList(city.folder, rows["image"], SPEC.preprocess())
        out = np.empty((len(rows), model.descriptor_dim), np.float32)
        Describer(model, torch.device("cpu")).describe(images, out, 8)
        descriptors.append(out)
    result = evaluate_ranking(*search(*descriptors, 20), *parts, [1, 5], 25.0)
    database, queries = (Manifest(city.name, city.root, rows) for rows in parts)
    return model, SetInput("val", database, queries, result.predictions, result.metrics)


@dataclass(frozen=True)
class Shown:
    """A section, what it was made of, and a second run on the same queries."""

    section: SetSection
    given: SetInput
    other: SetInput
    thumbnails: Thumbnails


def shown_city(city: Manifest) -> Shown:
    """The section of the city's validation set, with heat maps."""
    model, given = evaluated(city, 0)
    _, other = evaluated(city, 1)
    thumbnails = Thumbnails(1_000_000)
    return Shown(set_section(given, 25.0, CALIBRATION, thumbnails, model), given, other, thumbnails)


def report_of(title: str, runs: list[str], sets: list[SetSection], thumbnails: Thumbnails, **parts) -> Report:
    """A whole report."""
    parts.setdefault("training", TrainingSection())
    return Report(title, "a subtitle", [("a", "b")], runs, sets, thumbnails.encoded, **parts)
