"""Where was this photo taken? Photos -> positions, with a confidence where one was learnt."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vpr.config.errors import UserError
from vpr.data.checksums import file_sha256
from vpr.data.images import MAX_PIXELS
from vpr.localization.confidence import USUAL_SHARE, confidence_inputs, is_other_place
from vpr.localization.filters import ANYWHERE, Where
from vpr.localization.index import Database, Found
from vpr.localization.photos import from_base64, read_photo
from vpr.model.checkpoint import load_checkpoint
from vpr.model.vpr_model import VPRModel

MAX_PREDICTIONS = 1000


class Localizer:
    """Photos -> positions.

    Args:
        model: that described the index; on the device to describe photos on.
        sha256: of its checkpoint.
        index: the database.

    Raises:
        UserError: if the index was described by another model, or its descriptors are of another size.
    """

    def __init__(self, model: VPRModel, sha256: str, index: Database) -> None:
        self.model, self.index = model, index
        self.device = next(model.parameters()).device
        if index.facts.model_sha256 != sha256:
            raise UserError(
                f"the index was described by another model ({index.facts.model_sha256[:12]}) than this one "
                f"({sha256[:12]}); build it again with `dvc repro index` or `vpr index`"
            )
        size = index.descriptor_dim
        if size != self.model.descriptor_dim:
            raise UserError(
                f"the index holds descriptors of {size}, the model makes some of {self.model.descriptor_dim}; build "
                "the index again"
            )
        self.preprocess = self.model.spec.preprocess()
        index.search(np.eye(1, size, dtype=np.float32), 1, ANYWHERE)  # what is damaged is found now

    @classmethod
    def open(cls, checkpoint: Path, index: Database, device: torch.device) -> Localizer:
        """With the model of a checkpoint."""
        model, _ = load_checkpoint(checkpoint)
        return cls(model.to(device), file_sha256(checkpoint), index)

    def describe(self, photos: Iterable[Image.Image]) -> NDArray[np.float32]:
        """Descriptors ``(number, D)``, each photo on its own, so that an answer does not depend on the others."""
        rows = []
        with torch.inference_mode():
            for photo in photos:
                rows.append(self.model(self.preprocess(photo)[None].to(self.device)).float().cpu().numpy()[0])
        return np.stack(rows)

    def locate(
        self,
        descriptors: NDArray[np.float32],
        num_predictions: int = 5,
        min_confidence: float = 0.0,
        where: Where = ANYWHERE,
    ) -> list[dict[str, Any]]:
        """One answer for each descriptor, in plain types.

        ``known`` is false, and there is no position, where the confidence is below ``min_confidence``. ``confidence``
        is the probability of what ``confidence_means`` says, that the first prediction is within the radius; ``None``
        without calibration. ``confidence_note`` says what it was learnt on, and why it does not hold where it does
        not: for another database, or a photo that is farther from it than the validation queries were.

        Raises:
            UserError: if ``min_confidence`` is asked of an index without calibration, or numbers are out of range.
        """
        calibration = self.index.calibration
        if not 0 <= min_confidence <= 1:
            raise UserError(f"min_confidence is {min_confidence}; expected a probability from 0 to 1")
        if not 1 <= num_predictions <= MAX_PREDICTIONS:
            raise UserError(f"num_predictions is {num_predictions}; expected 1 to {MAX_PREDICTIONS}")
        if min_confidence > 0 and calibration is None:
            raise UserError("min_confidence needs a calibrated index, and this one has no calibration; leave it at 0")
        k = max(num_predictions, calibration.neighbours if calibration else 1)
        found = self.index.search(descriptors, k, where)
        return [self._answer(each, num_predictions, min_confidence) for each in found]

    def _answer(self, found: Found, num_predictions: int, min_confidence: float) -> dict[str, Any]:
        place = ("lat", "lon", "utm_east", "utm_north", "utm_zone", "place_id")
        calibration = self.index.calibration
        answer: dict[str, Any] = {"known": False, **dict.fromkeys(place), "confidence": None}
        answer["confidence_means"] = calibration.means if calibration else None
        if not len(found.images):
            return answer | {"confidence_note": "no photo of the database fits the conditions", "predictions": []}
        confidence = None
        if calibration is not None:
            near = calibration.neighbours
            apart = is_other_place(found.images, 1, self.index.facts.radius_m)
            inputs = confidence_inputs(found.distances[None, :near], apart[:, :near])
            confidence = float(calibration.confidence(inputs)[0])
        rows = found.images.head(num_predictions).to_dict("records")
        predictions = [_prediction(row, float(d)) for row, d in zip(rows, found.distances, strict=False)]
        if confidence is None or confidence >= min_confidence:
            answer |= {"known": True, **{key: predictions[0][key] for key in place}}
        return answer | {
            "confidence": None if confidence is None else round(confidence, 4),
            "confidence_note": self._note(float(found.distances[0])),
            "predictions": predictions,
        }

    def _note(self, distance: float) -> str:
        """What is to be known of the confidence of an answer.

        Args:
            distance: to the first prediction.
        """
        calibration = self.index.calibration
        if calibration is None:
            return "not learnt for this database"
        notes = [f"learnt on {calibration.learnt_on}"]
        if calibration.dataset != self.index.facts.dataset:
            notes.append("which these photos are not of, so it does not hold here")
        if distance > calibration.usual_distance:
            notes.append(
                f"this photo is unlike those: farther from the database than {USUAL_SHARE:.0%} of them, perhaps of "
                "another place or kind"
            )
        return "; ".join(notes)


def _prediction(image: dict[str, Any], distance: float) -> dict[str, Any]:
    return {
        "image": str(image["image"]),
        "lat": _number(image["lat"], 6),
        "lon": _number(image["lon"], 6),
        "utm_east": _number(image["utm_east"], 2),
        "utm_north": _number(image["utm_north"], 2),
        "utm_zone": image["utm_zone"] or None,
        "place_id": image["place_id"] or None,
        "descriptor_distance": round(distance, 6),
        "similarity": round(1 - distance**2 / 2, 6),
    }


def locate_photo(
    localizer: Localizer,
    name: str,
    content: bytes,
    num_predictions: int = 5,
    min_confidence: float = 0.0,
    with_descriptor: bool = False,
    max_pixels: int = MAX_PIXELS,
    where: Where = ANYWHERE,
) -> dict[str, Any]:
    """The answer for a photo; for one that can't be read it is an ``error``.

    Args:
        name, content: of the photo.
        with_descriptor: add the photo's descriptor.
        max_pixels: that a photo may have.
        where: which photos may answer.
    """
    try:
        descriptor = localizer.describe([read_photo(content, name, max_pixels)])
        answer = {"photo": name, **localizer.locate(descriptor, num_predictions, min_confidence, where)[0]}
    except UserError as error:
        return {"photo": name, "error": str(error)}
    if with_descriptor:
        answer["descriptor"] = [float(v) for v in descriptor[0]]
    return answer


def locate_encoded(
    localizer: Localizer,
    photos: Iterable[Any],
    num_predictions: int,
    min_confidence: float,
    with_descriptor: bool,
    max_pixels: int = MAX_PIXELS,
    deadline: float = math.inf,
) -> list[dict[str, Any]]:
    """An answer for each photo that was sent, see ``locate_photo``.

    Args:
        photos: in base64.
        deadline: by ``time.monotonic()``; photos whose turn comes later are not looked at.
    """
    answers = []
    for number, encoded in enumerate(photos, 1):
        name = f"photo {number}"
        try:
            if time.monotonic() > deadline:
                raise UserError(f"{name}: not looked at, the time of the request was over")
            content = from_base64(encoded, name)
        except UserError as error:
            answers.append({"photo": name, "error": str(error)})
        else:
            answers.append(
                locate_photo(localizer, name, content, num_predictions, min_confidence, with_descriptor, max_pixels)
            )
    return answers


def _number(value: Any, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(float(value)) else None
