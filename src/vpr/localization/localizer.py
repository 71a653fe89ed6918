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
from vpr.data.coordinates import to_degrees
from vpr.data.images import MAX_PIXELS
from vpr.localization.confidence import USUAL_SHARE, confidence_inputs, is_other_place
from vpr.localization.index import Index
from vpr.localization.photos import from_base64, read_photo
from vpr.model.checkpoint import load_checkpoint
from vpr.retrieval.search import exact_index, search_in

MAX_PREDICTIONS = 1000


class Localizer:
    """Photos -> positions.

    Args:
        checkpoint: of the model that described the index.
        index: the database.
        device: to describe photos on.

    Raises:
        UserError: if the index was described by another model, or its descriptors are of another size.
    """

    def __init__(self, checkpoint: Path, index: Index, device: torch.device) -> None:
        self.model, _ = load_checkpoint(checkpoint)
        self.model.to(device)
        self.index, self.device = index, device
        self.exact = exact_index(index.descriptors)
        sha256 = file_sha256(checkpoint)
        if index.facts.model_sha256 != sha256:
            raise UserError(
                f"the index was described by another model ({index.facts.model_sha256[:12]}) than {checkpoint} "
                f"({sha256[:12]}); build it again with `dvc repro index` or `vpr index`"
            )
        size = index.descriptors.shape[1]
        if size != self.model.descriptor_dim:
            raise UserError(
                f"the index holds descriptors of {size}, {checkpoint} makes some of {self.model.descriptor_dim}; build "
                "the index again"
            )
        self.preprocess = self.model.spec.preprocess()
        rows = index.images
        self.lat, self.lon = to_degrees(
            rows["utm_east"].to_numpy(dtype=float), rows["utm_north"].to_numpy(dtype=float), rows["utm_zone"].to_list()
        )

    def describe(self, photos: Iterable[Image.Image]) -> NDArray[np.float32]:
        """Descriptors ``(number, D)``, each photo on its own, so that an answer does not depend on the others."""
        rows = []
        with torch.inference_mode():
            for photo in photos:
                rows.append(self.model(self.preprocess(photo)[None].to(self.device)).float().cpu().numpy()[0])
        return np.stack(rows)

    def locate(
        self, descriptors: NDArray[np.float32], num_predictions: int = 5, min_confidence: float = 0.0
    ) -> list[dict[str, Any]]:
        """One answer for each descriptor, in plain types.

        ``known`` is false, and there is no position, where the confidence is below ``min_confidence``. ``confidence``
        is the probability of what ``confidence_means`` says, that the first prediction is within the radius; ``None``
        without calibration. ``confidence_note`` says what it was learnt on, and why it does not hold where it does
        not: for another database, or a photo that is farther from it than the validation queries were.

        Raises:
            UserError: if ``min_confidence`` is asked of an index without calibration, or numbers are out of range.
        """
        calibration, radius_m = self.index.calibration, self.index.facts.radius_m
        if not 0 <= min_confidence <= 1:
            raise UserError(f"min_confidence is {min_confidence}; expected a probability from 0 to 1")
        if not 1 <= num_predictions <= MAX_PREDICTIONS:
            raise UserError(f"num_predictions is {num_predictions}; expected 1 to {MAX_PREDICTIONS}")
        if min_confidence > 0 and calibration is None:
            raise UserError("min_confidence needs a calibrated index, and this one has no calibration; leave it at 0")
        ranking, distances = search_in(
            self.exact, descriptors, max(num_predictions, calibration.neighbours if calibration else 1)
        )
        apart = is_other_place(self.index.images.iloc[ranking.ravel()], len(ranking), radius_m)
        confidence = None
        if calibration is not None:
            near = calibration.neighbours
            confidence = calibration.confidence(confidence_inputs(distances[:, :near], apart[:, :near]))
        answers = []
        for q in range(len(ranking)):
            predictions = [
                self._prediction(int(k), float(d))
                for k, d in zip(ranking[q][:num_predictions], distances[q], strict=False)
            ]
            sure = None if confidence is None else round(float(confidence[q]), 4)
            known = confidence is None or float(confidence[q]) >= min_confidence
            place = ("lat", "lon", "utm_east", "utm_north", "utm_zone", "place_id")
            position = {key: predictions[0][key] if known else None for key in place}
            answers.append(
                {
                    "known": known,
                    **position,
                    "confidence": sure,
                    "confidence_means": calibration.means if calibration else None,
                    "confidence_note": self._note(float(distances[q, 0])),
                    "predictions": predictions,
                }
            )
        return answers

    def _note(self, distance: float) -> str:
        """What is to be known of the confidence of an answer.

        Args:
            distance: to the first prediction.
        """
        calibration = self.index.calibration
        if calibration is None:
            return "not learnt for this database"
        notes = [f"learnt on {calibration.learnt_on}"]
        if not self.index.confidence_holds:
            notes.append("which these photos are not of, so it does not hold here")
        if distance > calibration.usual_distance:
            notes.append(
                f"this photo is unlike those: farther from the database than {USUAL_SHARE:.0%} of them, perhaps of "
                "another place or kind"
            )
        return "; ".join(notes)

    def _prediction(self, row: int, distance: float) -> dict[str, Any]:
        image = self.index.images.iloc[row]
        return {
            "image": str(image["image"]),
            "lat": _number(self.lat[row], 6),
            "lon": _number(self.lon[row], 6),
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
) -> dict[str, Any]:
    """The answer for a photo; for one that can't be read it is an ``error``.

    Args:
        name, content: of the photo.
        with_descriptor: add the photo's descriptor.
        max_pixels: that a photo may have.
    """
    try:
        descriptor = localizer.describe([read_photo(content, name, max_pixels)])
        answer = {"photo": name, **localizer.locate(descriptor, num_predictions, min_confidence)[0]}
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
