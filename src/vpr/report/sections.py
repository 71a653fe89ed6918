"""What the page shows, in plain types: each class is a part of the page, and of the JSON in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ConditionValue:
    """Recall@1 of the queries of one condition, such as night, with its 95 % interval."""

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
    """The share of queries whose first prediction is at most so many metres away."""

    metres: float
    share: float


@dataclass(frozen=True)
class MapSection:
    """Positions in metres from ``origin``: distinct ones of the database, and those of all queries.

    Attributes:
        zone: of the UTM grid that ``origin`` is in; empty where there are several, and it is in none.
        mercator: ``a, b, c, d, e, f``: the point ``x, y`` metres from ``origin`` is at ``ax + by + c, dx + ey + f`` of
            the map of the world that tiles are cut from, both from 0 to 1; empty without a zone.
    """

    database: list[list[int]]
    queries: list[list[float]]
    origin: list[float]
    zone: str
    mercator: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class CalibrationSection:
    """How far the confidence can be trusted on this set."""

    fitted_on: str
    error: float
    bins: list[dict[str, float]]
    precision_recall: list[dict[str, float]]


@dataclass(frozen=True)
class QueriesSection:
    """A list entry for each query.

    Attributes:
        image: file name.
        title: where and when it was taken, as far as that is known.
        rank: of its first positive; 0 for none.
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
        thumb: number of its thumbnail.
        turn_deg: between its heading and the query's.
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
        query: its number.
        positive: the nearest positive, if there is one.
        heat: maps of the query and of its first prediction, as lines of digits from 0 to 9.
        other_found, other: of a second run: whether it finds the query, and its predictions.
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
    """An evaluation set; where it is unlabelled, what needs labels is empty or ``None``."""

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
    """Rows of the training charts: step and value, or epoch and ``recalls``; empty where nothing was trained."""

    loss: list[list[float]] = field(default_factory=list)
    informative: list[list[float]] = field(default_factory=list)
    validation: list[list[float]] = field(default_factory=list)
    recalls: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Drawing:
    """A query beside the candidate that a second look prefers, as JPEG in base64."""

    picture: str
    text: str


@dataclass(frozen=True)
class SecondLookOfSet:
    """A set before and after a second look.

    Attributes:
        looked: queries that were looked at, of how many.
        recalls: name, before and after, in percent; a dash for those that are not known.
        changed: first predictions that became right, and wrong; ``None`` for an unlabelled set.
    """

    name: str
    looked: tuple[int, int]
    recalls: list[tuple[str, str, str]]
    changed: tuple[int, int] | None
    drawings: list[Drawing]


@dataclass(frozen=True)
class Report:
    """The whole page.

    Attributes:
        title, subtitle: at its top.
        configuration: keys and values.
        runs: the run's name; two of them where a second is shown beside the first.
        sets: the evaluation sets.
        thumbs: thumbnails, as JPEG in base64; the sets name them by number.
        training: the training charts.
        start: the set that is shown first.
        notes: what a reader of the numbers has to know first.
        second_look: by local features; empty where there was none.
        second_look_text: what was compared, and where.
        model_sha256: of the model that was evaluated; what is known of its training beside the page must be of it.
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
    second_look: list[SecondLookOfSet] = field(default_factory=list)
    second_look_text: str = ""
    model_sha256: str = ""

    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        return {
            key: value for key, value in asdict(self).items() if key in ("runs", "sets", "thumbs", "training", "start")
        }
