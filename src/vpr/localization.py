"""Where was this photo taken? A model, the descriptors of a database, and a calibrated confidence.

An index is a folder: ``descriptors.npy`` ``(number, D)``, ``images.parquet`` with a row for each of them, and
``index.json`` with the model's hash, what the images are and the calibration. The ``index`` stage leaves one of a run,
``vpr index`` builds one from a folder of photos.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vpr.calibration import Calibration, elsewhere, features
from vpr.datasets.checksums import file_sha256
from vpr.datasets.coordinates import to_degrees
from vpr.datasets.images import Preprocess
from vpr.model import load_checkpoint
from vpr.retrieval import exact_index, search_in

INDEX_COLUMNS = ["image", "utm_east", "utm_north", "utm_zone", "place_id", "heading", "timestamp"]
MAX_PIXELS = 64_000_000  # decoded, 192 MB; more is no photo, or an attack
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")  # no decoder that runs another program


@dataclass(frozen=True)
class Index:
    """A database to locate photos in.

    Attributes:
        descriptors: ``(number, D)``, rows of unit norm.
        images: ``INDEX_COLUMNS`` of each.
        facts: ``model_sha256``, ``name``, ``radius_m``.
        calibration: ``None`` where it was not learnt.
    """

    descriptors: NDArray[np.float32]
    images: pd.DataFrame
    facts: dict[str, Any]
    calibration: Calibration | None

    def save(self, folder: Path) -> None:
        """Write the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "descriptors.npy", self.descriptors)
        self.images[INDEX_COLUMNS].reset_index(drop=True).to_parquet(folder / "images.parquet")
        content = {**self.facts, "calibration": self.calibration.as_dict() if self.calibration else None}
        (folder / "index.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_index(folder: Path) -> Index:
    """Read what ``Index.save`` wrote.

    Raises:
        FileNotFoundError: if it is no such folder.
    """
    files = [folder / name for name in ("descriptors.npy", "images.parquet", "index.json")]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: no index, {', '.join(missing)} is not there; run `dvc repro index`, or `vpr index` for photos "
            "of your own"
        )
    facts = json.loads(files[2].read_text(encoding="utf-8"))
    known = facts.pop("calibration")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in (known or {}).items()}
    calibration = Calibration(**values) if known else None
    return Index(np.load(files[0], mmap_mode="r"), pd.read_parquet(files[1]), facts, calibration)


def read_photo(content: bytes, name: str) -> Image.Image:
    """Decode a photo as RGB, turned upright by its EXIF orientation.

    Raises:
        ValueError: if it is no image, a broken one, or too large.
    """
    if not content:
        raise ValueError(f"{name}: empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise TooLarge(f"{name}: {width} x {height} pixels; send at most {MAX_PIXELS // 10**6} million")
                return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not an image; send a JPEG, PNG, WebP or another photo") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name}: too many pixels; send at most {MAX_PIXELS // 10**6} million") from None
    except TooLarge:
        raise
    except Exception as error:  # decoders fail in many ways
        raise ValueError(f"{name}: can't be read as an image: {error}") from None


class TooLarge(ValueError):
    """An image of more pixels than a photo has."""


class Localizer:
    """Photos -> positions.

    Args:
        checkpoint: of the model that described the index.
        index: the database.
        device: to describe photos on.

    Raises:
        ValueError: if the index was described by another model.
    """

    def __init__(self, checkpoint: Path, index: Index, device: torch.device) -> None:
        self.model, _ = load_checkpoint(checkpoint)
        self.model.to(device)
        self.index, self.device = index, device
        self.exact = exact_index(index.descriptors)
        sha256 = file_sha256(checkpoint)
        if index.facts["model_sha256"] != sha256:
            raise ValueError(
                f"the index was described by another model ({index.facts['model_sha256'][:12]}) than {checkpoint} "
                f"({sha256[:12]}); build it again with `dvc repro index` or `vpr index`"
            )
        spec = self.model.spec
        self.preprocess = Preprocess(spec.image_size, spec.mean, spec.std)
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
            ValueError: if ``min_confidence`` is asked of an index without calibration, or numbers are out of range.
        """
        calibration, radius_m = self.index.calibration, float(self.index.facts["radius_m"])
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence is {min_confidence}; expected a probability from 0 to 1")
        if num_predictions < 1:
            raise ValueError(f"num_predictions is {num_predictions}; expected at least 1")
        if min_confidence > 0 and calibration is None:
            raise ValueError("min_confidence needs a calibrated index, and this one has no calibration; leave it at 0")
        ranking, distances = search_in(
            self.exact, descriptors, max(num_predictions, calibration.neighbours if calibration else 1)
        )
        apart = elsewhere(self.index.images.iloc[ranking.ravel()], len(ranking), radius_m)
        confidence = None
        if calibration is not None:
            near = calibration.neighbours
            confidence = calibration.confidence(features(distances[:, :near], apart[:, :near]))
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
        except ValueError as error:
            answer = {"photo": name, "error": str(error)}
        answers.append(answer)
    return answers


def _number(value: Any, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(float(value)) else None
