"""Where was this photo taken? Photos -> positions, with a confidence where one was learnt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vpr.config.errors import UserError
from vpr.data.checksums import file_sha256
from vpr.data.coordinates import to_degrees
from vpr.localization.confidence import confidence_inputs, is_other_place
from vpr.localization.index import Index
from vpr.localization.photos import read_photo
from vpr.model.checkpoint import load_checkpoint
from vpr.retrieval.search import exact_index, search_in


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
        without calibration.

        Raises:
            UserError: if ``min_confidence`` is asked of an index without calibration, or numbers are out of range.
        """
        calibration, radius_m = self.index.calibration, self.index.facts.radius_m
        if not 0 <= min_confidence <= 1:
            raise UserError(f"min_confidence is {min_confidence}; expected a probability from 0 to 1")
        if num_predictions < 1:
            raise UserError(f"num_predictions is {num_predictions}; expected at least 1")
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
                    "predictions": predictions,
                }
            )
        return answers

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


def locate_photos(
    localizer: Localizer,
    photos: Sequence[tuple[str, bytes]],
    num_predictions: int = 5,
    min_confidence: float = 0.0,
    with_descriptor: bool = False,
) -> list[dict[str, Any]]:
    """An answer for each photo; one that can't be read has an ``error`` and does not stop the others.

    Args:
        photos: names and contents.
        with_descriptor: add the photo's descriptor.
    """
    answers: list[dict[str, Any]] = []
    for name, content in photos:
        try:
            descriptor = localizer.describe([read_photo(content, name)])
            answer = {"photo": name, **localizer.locate(descriptor, num_predictions, min_confidence)[0]}
            if with_descriptor:
                answer["descriptor"] = [float(v) for v in descriptor[0]]
        except UserError as error:
            answer = {"photo": name, "error": str(error)}
        answers.append(answer)
    return answers


def _number(value: Any, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(float(value)) else None
