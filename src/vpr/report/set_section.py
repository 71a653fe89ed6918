"""Compute the numbers that the page shows for an evaluation set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.data.positions import Positions
from vpr.evaluation.predictions import Predictions
from vpr.localization.confidence import (
    Calibration,
    calibration_error,
    confidence_of,
    precision_recall,
    reliability,
)
from vpr.model.vpr_model import VPRModel
from vpr.pages.look import month_in_words
from vpr.report.cards import add_heat_maps, add_other_run, make_cards
from vpr.report.condition_bars import as_codes, condition_bars, query_conditions, wilson
from vpr.report.map import map_section
from vpr.report.sections import CalibrationSection, ErrorShare, QueriesSection, SetSection
from vpr.report.set_input import SetInput
from vpr.report.thumbnails import Thumbnails
from vpr.retrieval.positives import positives_of


def set_section(
    given: SetInput, radius_m: float, calibration: Calibration | None, thumbnails: Thumbnails, model: VPRModel | None
) -> SetSection:
    """Return everything that the page shows for a set.

    Args:
        given: Evaluation set.
        radius_m: Largest distance of a positive, in metres.
        calibration: Calibration of the confidence; ``None`` for none.
        thumbnails: Thumbnails of the page, which the cards add to.
        model: Model for heat maps on the first cards; ``None`` for none.
    """
    database, queries, predictions = given.database.rows, given.queries.rows, given.predictions
    positives = positives_of(database, queries, radius_m)
    correct = predictions.is_positive
    rank = _rank_of_first_positive(correct) if correct is not None else np.zeros(len(predictions), dtype=np.int64)
    confidence = None if calibration is None else confidence_of(predictions, database, calibration, radius_m)
    conditions = query_conditions(queries, database, positives)
    error_m = predictions.distance_m[:, 0]
    labelled = positives is not None and correct is not None
    cards = make_cards(given, rank, positives, thumbnails)
    return SetSection(
        name=given.name,
        metrics=given.metrics,
        interval=wilson(int((rank == 1).sum()), len(predictions)) if labelled else None,
        labelled=labelled,
        num_predictions=predictions.num_kept,
        curve=recall_curve(predictions),
        conditions=condition_bars(conditions, rank) if labelled else [],
        errors=_error_shares(error_m) if labelled and np.isfinite(predictions.distance_m).any() else [],
        map=map_section(database, queries),
        calibration=_calibration_section(confidence, correct, calibration),
        queries=QueriesSection(
            image=[str(Path(image).name) for image in queries["image"]],
            title=titles(queries),
            rank=rank.tolist() if labelled else [],
            error_m=[round(float(v), 1) if np.isfinite(v) else None for v in error_m],
            confidence=[] if confidence is None else [round(float(v), 4) for v in confidence],
            has_positive=[len(p) > 0 for p in positives] if positives is not None else [],
            conditions={key: as_codes(values) for key, values in conditions.items()},
        ),
        cards=cards if model is None else add_heat_maps(cards, given, model),
    )


def titles(queries: pd.DataFrame) -> list[str]:
    """Return position and month of each query, such as ``49.89273, 13.89939, August 2021``."""
    lat, lon = Positions.of(queries).degrees
    found = []
    for q, (place, time) in enumerate(zip(queries["place_id"], queries["timestamp"], strict=True)):
        where = f"{lat[q]:.5f}, {lon[q]:.5f}" if np.isfinite(lat[q]) else f"place {place}" if place else ""
        found.append(", ".join(part for part in (where, month_in_words(str(time))) if part))
    return found


def with_other_run(
    section: SetSection, given: SetInput, other: Predictions, metrics: dict[str, Any], thumbnails: Thumbnails
) -> SetSection:
    """Return the section with a second run beside the first.

    Args:
        section: Section of the first run.
        given: Evaluation set.
        other: Predictions of the second run for the same queries.
        metrics: Metrics of the second run.
        thumbnails: Thumbnails of the page.
    """
    correct = other.is_positive
    return replace(
        section,
        other_metrics=metrics,
        other_interval=None if correct is None else wilson(int(correct[:, 0].sum()), len(other)),
        other_curve=recall_curve(other),
        cards=add_other_run(section.cards, given, other, thumbnails),
    )


def recall_curve(predictions: Predictions) -> list[float]:
    """Return recall@1, recall@2 and so on, up to the number of predictions; empty for an unlabelled set."""
    if predictions.is_positive is None:
        return []
    found = np.maximum.accumulate(predictions.is_positive, axis=1)
    return [round(float(v), 5) for v in found.mean(axis=0)]


def _rank_of_first_positive(correct: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return ranks from 1; 0 if no prediction is a positive."""
    return np.where(correct.any(axis=1), correct.argmax(axis=1) + 1, 0)


def _calibration_section(
    confidence: NDArray[np.float64] | None, correct: NDArray[np.bool_] | None, calibration: Calibration | None
) -> CalibrationSection | None:
    if confidence is None or correct is None or calibration is None:
        return None
    curve = precision_recall(confidence, correct[:, 0])
    kept = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), 120)).astype(int))
    return CalibrationSection(
        calibration.set,
        round(calibration_error(confidence, correct[:, 0]), 4),
        reliability(confidence, correct[:, 0]).round(4).to_dict("records"),
        curve.iloc[kept].round(4).to_dict("records"),
    )


def _error_shares(error_m: NDArray[np.float64]) -> list[ErrorShare]:
    """Return the shares of queries whose first prediction is within several distances."""
    edges = [1, 2, 5, 10, 15, 20, 25, 50, 100, 200, 500, 1000, 2000, 5000, 10000]
    largest = np.nanmax(np.where(np.isfinite(error_m), error_m, 0))
    shown = [e for e in edges if e <= max(largest, 25)] + [e for e in edges if e > max(largest, 25)][:1]
    return [ErrorShare(float(e), round(float((error_m <= e).mean()), 4)) for e in shown]
