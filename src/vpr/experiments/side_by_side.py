"""Compare two runs on one page, such as queries that only one of them finds.

Rows and images come from the workspace, predictions and recalls from MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vpr.config.errors import UserError
from vpr.descriptors.described_set import DescribedSet
from vpr.evaluation.predictions import Predictions
from vpr.experiments.runs import Run, distinct_names, run_predictions, run_recalls
from vpr.report.report_page import render
from vpr.report.sections import Report, SetSection, TrainingSection
from vpr.report.set_input import SetInput
from vpr.report.set_section import set_section, with_other_run
from vpr.report.thumbnails import THUMB_BYTES, Thumbnails

DESCRIPTORS = Path("data/descriptors")


def write_side_by_side(first: Run, second: Run, sets: Sequence[str], radius_m: float, page: Path) -> None:
    """Write the page.

    Args:
        first, second: The runs.
        sets: Evaluation sets that both runs have.
        radius_m: Largest distance of a positive, in metres.
        page: File to write.

    Raises:
        UserError: if the workspace holds other images than the runs were evaluated on.
    """
    thumbnails = Thumbnails(THUMB_BYTES // len(sets))
    sections = [_section(first, second, name, radius_m, thumbnails) for name in sets]
    keys = sorted(first.params.keys() | second.params.keys())
    differing = [key for key in keys if first.params.get(key) != second.params.get(key)]
    names = list(distinct_names(first, second))
    report = Report(
        title=f"{names[0]} beside {names[1]}",
        subtitle=f"{first.name} ({first.id[:8]}) and {second.name} ({second.id[:8]}); the configuration lists "
        "the differences",
        configuration=[(k, f"{first.params.get(k, 'none')} | {second.params.get(k, 'none')}") for k in differing],
        runs=names,
        sets=sections,
        thumbs=thumbnails.encoded,
        training=TrainingSection(),
        start=next((name for name in sets if name != first.params.get("train.val_set")), sets[0]),
    )
    page.write_text(render(report), encoding="utf-8")


def _section(first: Run, second: Run, name: str, radius_m: float, thumbnails: Thumbnails) -> SetSection:
    described = DescribedSet.load(DESCRIPTORS / name)
    images, queries = described.database.rows["image"].to_numpy(), described.queries.rows["image"].to_numpy()
    found = []
    for run in (first, second):
        predictions = Predictions.load(run_predictions(run, name))
        same_queries = len(predictions) == len(queries) and bool((predictions.queries == queries).all())
        in_range = predictions.ranking.max(initial=0) < len(images)
        if not (same_queries and in_range and (images[predictions.ranking] == predictions.images).all()):
            raise UserError(
                f"{run.name} was evaluated on images that differ from those in {DESCRIPTORS / name}; run "
                "`dvc repro` with its dataset first"
            )
        found.append(predictions)
    given = SetInput.of(described, found[0], run_recalls(first, name))
    section = set_section(given, radius_m, None, thumbnails, None)
    return with_other_run(section, given, found[1], run_recalls(second, name), thumbnails)
