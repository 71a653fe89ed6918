"""Build the gallery: cards of queries with their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr.evaluation.predictions import Predictions
from vpr.model.vpr_model import VPRModel
from vpr.report.condition_bars import nearest_positives
from vpr.report.heat_maps import heat_lines
from vpr.report.sections import Card, ShownImage
from vpr.report.set_input import SetInput
from vpr.report.thumbnails import Thumbnails
from vpr.retrieval.positives import Positives
from vpr.retrieval.search import similarity

SHOWN_PREDICTIONS = 5
HEAT_MAPS = 12  # cards of each set with heat maps of the query and its first prediction


def make_cards(
    given: SetInput, rank: NDArray[np.int64], positives: Positives | None, thumbnails: Thumbnails
) -> list[Card]:
    """Return cards that alternate between wrong and right queries, hardest first, within the budget of thumbnails.

    Args:
        given: Evaluation set.
        rank: Rank of each query's first positive; 0 if there is none.
        positives: Positives of each query; ``None`` for an unlabelled set.
        thumbnails: Thumbnails of the page.
    """
    nearest = nearest_positives(given.database.rows, given.queries.rows, positives)
    cards = []
    start = thumbnails.used
    for q in hardest_first(rank, given.predictions):
        if thumbnails.used - start >= thumbnails.budget:
            break
        predictions = _shown(given, given.predictions, q, thumbnails)  # first, so that their thumbnails come first
        thumb = thumbnails.add(given.queries.folder / given.queries.rows["image"].iloc[q])
        positive = None
        if (found := nearest[q]) is not None:
            image = given.database.rows["image"].iloc[found.row]
            thumb_of_it = thumbnails.add(given.database.folder / image)
            positive = ShownImage(thumb_of_it, Path(image).name, _known(found.metres), turn_deg=_known(found.turn_deg))
        cards.append(Card(q, thumb, predictions, positive))
    return cards


def hardest_first(rank: NDArray[np.int64], predictions: Predictions) -> list[int]:
    """Return the row numbers of the queries, alternating between wrong and right ones, hardest first."""
    missed = np.where(rank == 0, predictions.num_kept + 1, rank).astype(float)
    unsure = 1e-3 * predictions.distances[:, 0].astype(np.float64)
    difficulty = missed + np.where(rank == 1, unsure, -unsure)  # a wrong prediction with high similarity is the hardest
    hardest = [int(q) for q in np.argsort(-difficulty, kind="stable")]
    wrong = [q for q in hardest if rank[q] != 1]
    right = [q for q in hardest if rank[q] == 1]
    order = [q for pair in zip(wrong, right, strict=False) for q in pair]
    return order + wrong[len(right) :] + right[len(wrong) :]


def add_heat_maps(cards: Sequence[Card], given: SetInput, model: VPRModel) -> list[Card]:
    """Return the cards, the first of them with heat maps of query and first prediction."""
    first = []
    for card in cards[:HEAT_MAPS]:
        query = given.queries.folder / given.queries.rows["image"].iloc[card.query]
        prediction = given.database.folder / given.predictions.images[card.query, 0]
        first.append(replace(card, heat=heat_lines(model, query, prediction)))
    return [*first, *cards[HEAT_MAPS:]]


def add_other_run(cards: Sequence[Card], given: SetInput, other: Predictions, thumbnails: Thumbnails) -> list[Card]:
    """Return the cards with the predictions of a second run for the same queries."""
    found = None if other.is_positive is None else other.is_positive[:, 0]
    return [
        replace(
            card,
            other_found=bool(found[card.query]) if found is not None else False,
            other=_shown(given, other, card.query, thumbnails),
        )
        for card in cards
    ]


def _shown(given: SetInput, predictions: Predictions, q: int, thumbnails: Thumbnails) -> list[ShownImage]:
    shown = []
    for k in range(min(SHOWN_PREDICTIONS, predictions.num_kept)):
        image, metres = str(predictions.images[q, k]), float(predictions.distance_m[q, k])
        shown.append(
            ShownImage(
                thumbnails.add(given.database.folder / image),
                Path(image).name,
                _known(metres),
                round(float(similarity(predictions.distances[q, k])), 3),
                None if predictions.is_positive is None else bool(predictions.is_positive[q, k]),
            )
        )
    return shown


def _known(value: float) -> float | None:
    return round(value, 1) if np.isfinite(value) else None
