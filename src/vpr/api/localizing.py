"""Where photos were taken, from Python: ``vpr.localize``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vpr.api.models import Model, Photo, as_photos
from vpr.localization.index import Database
from vpr.localization.localizer import Localizer


def localize(
    photos: Photo | Iterable[Photo],
    model: Model,
    index: Database,
    num_predictions: int = 5,
    min_confidence: float = 0.0,
) -> list[dict[str, Any]]:
    """An answer for each photo, in plain types: that of ``vpr localize --json``.

    Args:
        photos: one or several, see ``vpr.api.models.Photo``.
        model: that described the index.
        num_predictions: nearest photos of the index to name.
        min_confidence: below this probability an answer says ``known: False`` and has no position.

    Raises:
        UserError: if a photo can't be read, or the index belongs to another model.
    """
    given = as_photos(photos)
    answers = Localizer(model.network, model.sha256, index).locate(
        model.describe(given), num_predictions, min_confidence
    )
    names = [str(photo) if isinstance(photo, str | Path) else f"photo {k}" for k, photo in enumerate(given, 1)]
    return [{"photo": name, **answer} for name, answer in zip(names, answers, strict=True)]
