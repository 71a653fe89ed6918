"""Locate photos: compare them with an index and attach a confidence."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.data.images import MAX_PIXELS
from vpr.descriptors.trained_model import Model
from vpr.localization.confidence import USUAL_SHARE, confidence_inputs, is_other_place
from vpr.retrieval.search import similarity
from vpr.serving.answers import Answer, Prediction
from vpr.serving.filters import ANYWHERE, Where
from vpr.serving.index import Database, Found
from vpr.serving.photos import from_base64, read_photo

MAX_PREDICTIONS = 1000


@dataclass(frozen=True)
class AnswerOptions:
    """Options of an answer.

    Attributes:
        num_predictions: Number of nearest database photos to name.
        min_confidence: Below this probability, an answer is unknown and has no position.
        with_descriptor: Whether to add the photo's descriptor.
        where: Condition on the database photos.
    """

    num_predictions: int = 5
    min_confidence: float = 0.0
    with_descriptor: bool = False
    where: Where = ANYWHERE


DEFAULT_OPTIONS = AnswerOptions()


class Localizer:
    """Locates photos in an index.

    Args:
        model: Model that described the index.
        index: Database to locate photos in.

    Raises:
        UserError: if another model described the index, or its descriptors have another size.
    """

    def __init__(self, model: Model, index: Database) -> None:
        self.model, self.index = model, index
        if index.facts.model_sha256 != model.sha256:
            raise UserError(
                f"the index was described by another model ({index.facts.model_sha256[:12]}) than this one "
                f"({model.sha256[:12]}); build it again with `dvc repro index` or `vpr index`"
            )
        size = index.descriptor_dim
        if size != model.descriptor_dim:
            raise UserError(
                f"the index holds descriptors of {size} numbers, but the model makes descriptors of "
                f"{model.descriptor_dim}; build the index again"
            )
        index.search(np.eye(1, size, dtype=np.float32), 1, ANYWHERE)  # this finds damage before the first photo

    def locate(
        self, photos: Sequence[str], descriptors: NDArray[np.float32], options: AnswerOptions = DEFAULT_OPTIONS
    ) -> list[Answer]:
        """Return an answer for each photo.

        An answer whose confidence is below ``min_confidence`` is not ``known`` and has no position.

        Args:
            photos: Names of the photos.
            descriptors: Their descriptors ``(number, D)``.
            options: Options of the answers.

        Raises:
            UserError: if ``min_confidence`` is used with an index without calibration, or a number is out of range.
        """
        self._check(options)
        calibration = self.index.calibration
        k = max(options.num_predictions, calibration.neighbours if calibration else 1)
        found = self.index.search(descriptors, k, options.where)
        answers = [self._answer(photo, each, options) for photo, each in zip(photos, found, strict=True)]
        if options.with_descriptor:
            answers = [
                replace(answer, descriptor=tuple(float(v) for v in descriptor))
                for answer, descriptor in zip(answers, descriptors, strict=True)
            ]
        return answers

    def locate_photo(
        self, name: str, content: bytes, options: AnswerOptions = DEFAULT_OPTIONS, max_pixels: int = MAX_PIXELS
    ) -> Answer:
        """Return the answer for one photo; if it cannot be read, the answer is an error.

        Args:
            name: Name of the photo.
            content: Content of its file.
            options: Options of the answer.
            max_pixels: Largest number of pixels of the photo.

        Raises:
            UserError: see ``locate``.
        """
        self._check(options)
        try:
            descriptor = self.model.describe([read_photo(content, name, max_pixels)])
            return self.locate([name], descriptor, options)[0]
        except UserError as error:
            return Answer(name, error=str(error))

    def locate_encoded(
        self,
        photos: Iterable[Any],
        options: AnswerOptions = DEFAULT_OPTIONS,
        max_pixels: int = MAX_PIXELS,
        deadline: float = math.inf,
    ) -> list[Answer]:
        """Return an answer for each photo of a request, see ``locate_photo``.

        Args:
            photos: Photos in base64.
            options: Options of the answers.
            max_pixels: Largest number of pixels of a photo.
            deadline: Time of ``time.monotonic()`` after which further photos get an error instead of an answer.
        """
        answers = []
        for number, encoded in enumerate(photos, 1):
            name = f"photo {number}"
            try:
                if time.monotonic() > deadline:
                    raise UserError(f"{name}: not processed, the time for the request was over")
                content = from_base64(encoded, name)
            except UserError as error:
                answers.append(Answer(name, error=str(error)))
            else:
                answers.append(self.locate_photo(name, content, options, max_pixels))
        return answers

    def _check(self, options: AnswerOptions) -> None:
        if not 0 <= options.min_confidence <= 1:
            raise UserError(f"min_confidence is {options.min_confidence}; expected a probability from 0 to 1")
        if not 1 <= options.num_predictions <= MAX_PREDICTIONS:
            raise UserError(f"num_predictions is {options.num_predictions}; expected 1 to {MAX_PREDICTIONS}")
        if options.min_confidence > 0 and self.index.calibration is None:
            raise UserError("min_confidence needs a calibrated index, and this one has no calibration; leave it at 0")

    def _answer(self, photo: str, found: Found, options: AnswerOptions) -> Answer:
        calibration = self.index.calibration
        means = calibration.means if calibration else None
        if not len(found.images):
            note = "no photo of the database fits the conditions"
            return Answer(photo, confidence_means=means, confidence_note=note)
        confidence = None
        if calibration is not None:
            near = calibration.neighbours
            other_place = is_other_place(found.images, 1, self.index.facts.radius_m)
            inputs = confidence_inputs(found.distances[None, :near], other_place[:, :near])
            confidence = float(calibration.confidence(inputs)[0])
        rows = found.images.head(options.num_predictions).to_dict("records")
        similarities = similarity(found.distances)
        predictions = tuple(
            Prediction.of(row, float(distance), float(similar))
            for row, distance, similar in zip(rows, found.distances, similarities, strict=False)
        )
        answer = Answer(
            photo,
            confidence=None if confidence is None else round(confidence, 4),
            confidence_means=means,
            confidence_note=self._note(float(found.distances[0])),
            predictions=predictions,
        )
        if confidence is not None and confidence < options.min_confidence:
            return answer
        first = predictions[0]
        return replace(
            answer,
            known=True,
            lat=first.lat,
            lon=first.lon,
            utm_east=first.utm_east,
            utm_north=first.utm_north,
            utm_zone=first.utm_zone,
            place_id=first.place_id,
        )

    def _note(self, distance: float) -> str:
        """Return the set that the confidence was learnt on, and whether it applies.

        Args:
            distance: Descriptor distance of the first prediction.
        """
        calibration = self.index.calibration
        if calibration is None:
            return "not learnt for this database"
        notes = [f"learnt on {calibration.learnt_on}"]
        if calibration.dataset != self.index.facts.dataset:
            notes.append("these photos are from elsewhere, so it does not hold here")
        if distance > calibration.usual_distance:
            notes.append(
                f"this photo is farther from the database than {USUAL_SHARE:.0%} of those, so it may show another "
                "place or be of another kind"
            )
        return "; ".join(notes)
