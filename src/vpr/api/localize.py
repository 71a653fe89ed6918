"""Locate photos from Python: ``vpr.localize``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vpr.descriptors.trained_model import Model, Photo, as_photos
from vpr.serving.answers import Answer
from vpr.serving.index import Database
from vpr.serving.localizer import AnswerOptions, Localizer


def localize(
    photos: Photo | Iterable[Photo],
    model: Model,
    index: Database,
    num_predictions: int = 5,
    min_confidence: float = 0.0,
) -> list[Answer]:
    """Return an answer for each photo, the same as ``vpr localize`` gives.

    Args:
        photos: One or several photos, see ``vpr.descriptors.trained_model.Photo``.
        model: Model that described the index.
        index: Index to locate the photos in.
        num_predictions: Number of nearest photos of the index to name.
        min_confidence: Below this probability, an answer is not ``known`` and has no position.

    Raises:
        UserError: if a photo cannot be read, or another model described the index.
    """
    given = as_photos(photos)
    names = [str(photo) if isinstance(photo, str | Path) else f"photo {k}" for k, photo in enumerate(given, 1)]
    options = AnswerOptions(num_predictions, min_confidence)
    return Localizer(model, index).locate(names, model.describe(given), options)
