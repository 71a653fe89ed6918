"""The parts of the report as plain types, which the page's JSON holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ConditionValue:
    """Recall@1 of queries with one condition, such as night, with its 95 % interval."""

    value: str
    n: int
    recall: float
    low: float
    high: float


@dataclass(frozen=True)
class ConditionBars:
    """Recall@1 by the values of a condition."""

    title: str
    rows: list[ConditionValue]


@dataclass(frozen=True)
class ErrorShare:
    """Share of queries whose first prediction is at most ``metres`` away."""

    metres: float
    share: float


@dataclass(frozen=True)
class MapSection:
    """Positions in metres from ``origin``.

    Attributes:
        database: Distinct positions of the database.
        queries: Positions of all queries.
        origin: UTM east and north of the origin.
        zone: UTM zone of the origin; empty if there are several.
        mercator: Numbers ``a, b, c, d, e, f``. The point ``x, y`` is at ``ax + by + c, dx + ey + f`` of the world map
            of web tiles, both from 0 to 1. Empty without a zone.
    """

    database: list[list[int]]
    queries: list[list[float]]
    origin: list[float]
    zone: str
    mercator: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class CalibrationSection:
    """Calibration of the confidence on this set."""

    fitted_on: str
    error: float
    bins: list[dict[str, float]]
    precision_recall: list[dict[str, float]]


@dataclass(frozen=True)
class QueriesSection:
    """Facts about the queries; each list has an entry for each query.

    Attributes:
        image: File name.
        title: Position and month, if they are known.
        rank: Rank of the first positive; 0 for none.
        error_m: Distance of the first prediction in metres, if it is known.
        confidence: Confidence in the first prediction; empty without a calibration.
        has_positive: Whether the database has a positive; empty for an unlabelled set.
        conditions: Values and codes of each condition.
    """

    image: list[str]
    title: list[str]
    rank: list[int]
    error_m: list[float | None]
    confidence: list[float]
    has_positive: list[bool]
    conditions: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ShownImage:
    """A database image on a card.

    Attributes:
        thumb: Number of its thumbnail.
        image: File name.
        metres: Distance from the query.
        similarity: Similarity to the query.
        correct: Whether it is a positive.
        turn_deg: Difference from the query's heading.
    """

    thumb: int | None
    image: str
    metres: float | None
    similarity: float | None = None
    correct: bool | None = None
    turn_deg: float | None = None


@dataclass(frozen=True)
class Card:
    """A query with its predictions.

    Attributes:
        query: Number of the query.
        thumb: Number of its thumbnail.
        predictions: Its first predictions.
        positive: Nearest positive, if there is one.
        heat: Heat maps of the query and of its first prediction, as lines of digits from 0 to 9.
        other_found: Whether a second run finds the query.
        other: Predictions of the second run.
    """

    query: int
    thumb: int | None
    predictions: list[ShownImage]
    positive: ShownImage | None
    heat: list[list[str]] | None = None
    other_found: bool | None = None
    other: list[ShownImage] | None = None


@dataclass(frozen=True)
class SetSection:
    """An evaluation set; fields that need labels are empty or ``None`` if it is unlabelled."""

    name: str
    metrics: dict[str, Any]
    interval: tuple[float, float] | None
    labelled: bool
    num_predictions: int
    curve: list[float]
    conditions: list[ConditionBars]
    errors: list[ErrorShare]
    map: MapSection | None
    calibration: CalibrationSection | None
    queries: QueriesSection
    cards: list[Card]
    other_metrics: dict[str, Any] | None = None
    other_interval: tuple[float, float] | None = None
    other_curve: list[float] | None = None


@dataclass(frozen=True)
class TrainingSection:
    """Rows of the training charts: step and value, or epoch and ``recalls``; empty without training."""

    loss: list[list[float]] = field(default_factory=list)
    informative: list[list[float]] = field(default_factory=list)
    validation: list[list[float]] = field(default_factory=list)
    recalls: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Drawing:
    """A query beside the candidate that re-ranking prefers, as JPEG in base64."""

    picture: str
    text: str


@dataclass(frozen=True)
class RerankedSection:
    """A set before and after re-ranking.

    Attributes:
        name: Name of the set.
        chosen: Number of re-ranked queries and of all queries.
        recalls: Name, and percentages before and after, with a dash for unknown ones.
        changed: Number of first predictions that became right, and wrong; ``None`` for an unlabelled set.
        drawings: Drawings of re-ranked queries.
    """

    name: str
    chosen: tuple[int, int]
    recalls: list[tuple[str, str, str]]
    changed: tuple[int, int] | None
    drawings: list[Drawing]


@dataclass(frozen=True)
class Report:
    """The whole page.

    Attributes:
        title, subtitle: Title and subtitle of the page.
        configuration: Keys and values of the configuration.
        runs: Names of the run, and of a second run if there is one.
        sets: Evaluation sets.
        thumbs: Thumbnails, as JPEG in base64, which the sets refer to by number.
        training: Training charts.
        start: Set that is shown first.
        notes: Cautions about the numbers.
        reranked: Sets before and after re-ranking; empty if nothing was re-ranked.
        reranking_text: Description of the re-ranking.
        model_sha256: Hash of the evaluated model; ``run.js`` must have the same.
    """

    title: str
    subtitle: str
    configuration: list[tuple[str, str]]
    runs: list[str]
    sets: list[SetSection]
    thumbs: list[str]
    training: TrainingSection
    start: str = ""
    notes: list[str] = field(default_factory=list)
    reranked: list[RerankedSection] = field(default_factory=list)
    reranking_text: str = ""
    model_sha256: str = ""

    def data(self) -> dict[str, Any]:
        """Return the data for the page's script."""
        return {
            key: value for key, value in asdict(self).items() if key in ("runs", "sets", "thumbs", "training", "start")
        }
