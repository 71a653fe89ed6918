"""Answers to the question where a photo was taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vpr.config.errors import printable


@dataclass(frozen=True)
class Prediction:
    """A database photo that looks like the photo in question.

    Attributes:
        image: Name of the database photo.
        lat, lon: Its position in degrees; ``None`` if unknown.
        utm_east, utm_north: Its position in metres; ``None`` if unknown.
        utm_zone: UTM zone such as ``32T``; ``None`` if unknown.
        place_id: Its place; ``None`` if unknown.
        descriptor_distance: L2 distance of the two descriptors.
        similarity: Cosine similarity of the two descriptors.
    """

    image: str
    lat: float | None
    lon: float | None
    utm_east: float | None
    utm_north: float | None
    utm_zone: str | None
    place_id: str | None
    descriptor_distance: float
    similarity: float

    @classmethod
    def of(cls, row: dict[str, Any], distance: float, similarity: float) -> Prediction:
        """Make a prediction from a row of an index."""
        return cls(
            str(row["image"]),
            _rounded(row["lat"], 6),
            _rounded(row["lon"], 6),
            _rounded(row["utm_east"], 2),
            _rounded(row["utm_north"], 2),
            row["utm_zone"] or None,
            row["place_id"] or None,
            round(distance, 6),
            round(similarity, 6),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the prediction in plain types, as in JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """The place of a photo, or the reason why there is none.

    Attributes:
        photo: Name of the photo.
        known: Whether the answer names a place; false below the confidence that was asked for.
        lat, lon: Position in degrees; ``None`` if unknown.
        utm_east, utm_north: Position in metres; ``None`` if unknown.
        utm_zone: UTM zone such as ``32T``; ``None`` if unknown.
        place_id: Place of the first prediction; ``None`` if unknown.
        confidence: Probability that the statement in ``confidence_means`` is true; ``None`` without a calibration.
        confidence_means: Statement such as ``within 25 m``; ``None`` without a calibration.
        confidence_note: Set that the confidence was learnt on, and whether it applies to this photo.
        predictions: Nearest database photos, nearest first.
        descriptor: Descriptor of the photo, if it was asked for.
        error: Reason why the photo could not be located; empty if it could.
    """

    photo: str
    known: bool = False
    lat: float | None = None
    lon: float | None = None
    utm_east: float | None = None
    utm_north: float | None = None
    utm_zone: str | None = None
    place_id: str | None = None
    confidence: float | None = None
    confidence_means: str | None = None
    confidence_note: str = ""
    predictions: tuple[Prediction, ...] = ()
    descriptor: tuple[float, ...] | None = None
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the answer in plain types, as in JSON; a failed one has only ``photo`` and ``error``."""
        if self.error:
            return {"photo": self.photo, "error": self.error}
        content = asdict(self) | {"predictions": [prediction.as_dict() for prediction in self.predictions]}
        del content["error"]
        if self.descriptor is None:
            del content["descriptor"]
        else:
            content["descriptor"] = list(self.descriptor)
        return content

    def in_words(self) -> str:
        """Return the answer as text of several lines, as ``vpr localize`` prints it."""
        if self.error:
            return printable(f"{self.photo}\n  error: {self.error}")
        place = self.place_in_words()
        if self.known and self.lat is not None:
            place += f"  ({self.utm_east:.2f} E {self.utm_north:.2f} N {self.utm_zone})"
        lines = [self.photo, "  " + ", ".join(part for part in (place, self.confidence_in_words()) if part)]
        if self.confidence is not None:
            lines.append(f"  confidence: {self.confidence_note}")
        for rank, prediction in enumerate(self.predictions, 1):
            lines.append(f"  {rank}. similarity {prediction.similarity:.3f}  {prediction.image}")
        return printable("\n".join(lines))

    def place_in_words(self) -> str:
        """Return the position in degrees or metres, the place, or ``unknown``."""
        if not self.known:
            return "unknown"
        if self.lat is not None:
            return f"{self.lat:.6f}, {self.lon:.6f}"
        if self.utm_east is not None:
            return f"{self.utm_east:.2f} E {self.utm_north:.2f} N"
        return f"place {self.place_id or 'of the first prediction'}"

    def confidence_in_words(self) -> str:
        """Return a text such as ``87% likely to be within 25 m``; empty without a calibration."""
        return "" if self.confidence is None else f"{self.confidence:.0%} likely to be {self.confidence_means}"


def _rounded(value: Any, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(float(value)) else None
