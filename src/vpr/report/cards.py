"""The gallery: queries with their predictions, as cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vpr.model.vpr_model import VPRModel
from vpr.report.conditions import nearest_positives
from vpr.report.heat_maps import heat_lines
from vpr.report.sections import Card, ShownImage
from vpr.report.thumbnails import Thumbnails
from vpr.retrieval.positives import Positives
from vpr.retrieval.predictions import Predictions

if TYPE_CHECKING:
    from vpr.report.set_section import SetInput

SHOWN_PREDICTIONS = 5
HEAT_MAPS = 12  # query and first prediction, of each set


def make_cards(
    given: SetInput, rank: NDArray[np.int64], positives: Positives | None, thumbnails: Thumbnails
) -> list[Card]:
    """Queries with their predictions, wrong and right ones in turn, hardest first, within the budget.

    Args:
        rank: of each query's first positive; 0 where there is none.
        positives: of each query; ``None`` for an unlabelled set.
    """
    nearest = nearest_positives(given.database.rows, given.queries.rows, positives)
    cards = []
    start = thumbnails.used
    for q in hardest_first(rank, given.predictions):
        if thumbnails.used - start >= thumbnails.budget:
            break
        predictions = _shown(given, given.predictions, q, thumbnails)  # their thumbnails first
        thumb = thumbnails.add(given.queries.folder / given.queries.rows["image"].iloc[q])
        positive = None
        if (found := nearest[q]) is not None:
            image = given.database.rows["image"].iloc[found.row]
            thumb_of_it = thumbnails.add(given.database.folder / image)
            positive = ShownImage(thumb_of_it, Path(image).name, _known(found.metres), turn_deg=_known(found.turn_deg))
        cards.append(Card(q, thumb, predictions, positive))
    return cards


def hardest_first(rank: NDArray[np.int64], predictions: Predictions) -> list[int]:
    """Numbers of the queries, wrong and right ones in turn."""
    missed = np.where(rank == 0, predictions.num_kept + 1, rank).astype(float)
    unsure = 1e-3 * predictions.distances[:, 0].astype(np.float64)
    difficulty = missed + np.where(rank == 1, unsure, -unsure)  # sure and wrong is hardest
    hardest = [int(q) for q in np.argsort(-difficulty, kind="stable")]
    wrong = [q for q in hardest if rank[q] != 1]
    right = [q for q in hardest if rank[q] == 1]
    order = [q for pair in zip(wrong, right, strict=False) for q in pair]
    return order + wrong[len(right) :] + right[len(wrong) :]


def add_heat_maps(cards: Sequence[Card], given: SetInput, model: VPRModel) -> list[Card]:
    """The first cards with what makes query and first prediction similar."""
    first = []
    for card in cards[:HEAT_MAPS]:
        query = given.queries.folder / given.queries.rows["image"].iloc[card.query]
        prediction = given.database.folder / given.predictions.images[card.query, 0]
        first.append(replace(card, heat=heat_lines(model, query, prediction)))
    return [*first, *cards[HEAT_MAPS:]]


def add_other_run(cards: Sequence[Card], given: SetInput, other: Predictions, thumbnails: Thumbnails) -> list[Card]:
    """The cards with the predictions of a second run on the same queries."""
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
                round(1 - float(predictions.distances[q, k]) ** 2 / 2, 3),
                None if predictions.is_positive is None else bool(predictions.is_positive[q, k]),
            )
        )
    return shown


def _known(value: float) -> float | None:
    return round(value, 1) if np.isfinite(value) else None
