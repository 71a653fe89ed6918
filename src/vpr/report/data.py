"""What the page shows, as plain types: numbers of each evaluation set, thumbnails and heat maps."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from vpr.attention import similarity_maps
from vpr.calibration import Calibration, calibration_error, elsewhere, features, precision_recall, reliability
from vpr.datasets.coordinates import to_degrees
from vpr.datasets.images import Preprocess, open_image
from vpr.datasets.manifest import Manifest
from vpr.evaluation import condition_columns, has_coordinates, positives_of, utm_of
from vpr.model import VPRModel
from vpr.retrieval import Positives, grids

SHOWN_PREDICTIONS = 5
THUMB_PX, THUMB_QUALITY = (160, 120), 55
THUMB_BYTES = 12_000_000  # of all sets together, before base64
HEAT_MAPS = 12  # query and first prediction, of each set
MAX_MAP_POINTS = 4_000
SAME_WAY_DEG = 45
DISTANCE_BINS_M = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
HEADING_BINS_DEG = (0, 15, 30, 60, 90, 180)


@dataclass(frozen=True)
class SetInput:
    """One evaluation set as the stages left it: rows of database and queries, predictions, metrics and curve."""

    database: Manifest
    queries: Manifest
    predictions: pd.DataFrame
    metrics: dict[str, Any]


def wilson(successes: int, number: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson, 1927)."""
    if number == 0:
        return 0.0, 1.0
    share = successes / number
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * np.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


class Thumbnails:
    """Small copies of images, each once.

    Args:
        budget: bytes that each set may take.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.used = budget, 0
        self.encoded: list[str] = []
        self._number: dict[Path, int | None] = {}

    def add(self, path: Path) -> int | None:
        """The number of an image's thumbnail; ``None`` if it can't be read."""
        if path not in self._number:
            try:
                image = open_image(path)
            except OSError:
                self._number[path] = None
                return None
            image.thumbnail(THUMB_PX)
            data = io.BytesIO()
            image.save(data, "JPEG", quality=THUMB_QUALITY, optimize=True)
            self.used += len(data.getvalue())
            self.encoded.append(base64.b64encode(data.getvalue()).decode("ascii"))
            self._number[path] = len(self.encoded) - 1
        return self._number[path]


def recall_curve(predictions: pd.DataFrame, num_queries: int) -> list[float]:
    """recall@1, recall@2, ... of all predictions kept."""
    found = predictions["is_positive"].to_numpy(dtype=bool).reshape(num_queries, -1)
    return [round(float(v), 5) for v in np.maximum.accumulate(found, axis=1).mean(axis=0)]


def set_data(
    name: str, given: SetInput, radius_m: float, calibration: Calibration | None, thumbnails: Thumbnails
) -> dict[str, Any]:
    """Everything the page shows of a set."""
    database, queries = given.database.rows, given.queries.rows
    num = len(queries)
    table = given.predictions
    k = len(table) // num
    distances = table["descriptor_distance"].to_numpy(dtype=float).reshape(num, k)
    metres = table["distance_m"].to_numpy(dtype=float).reshape(num, k)
    row_of = {image: row for row, image in enumerate(database["image"])}
    ranking = np.array([row_of[image] for image in table["prediction"]]).reshape(num, k)
    positives = positives_of(database, queries, radius_m)
    labelled = positives is not None
    correct = (
        table["is_positive"].to_numpy(dtype=bool).reshape(num, k) if labelled else np.zeros((num, k), dtype=np.bool_)
    )
    confidence = None
    if calibration is not None:
        near = calibration.neighbours
        apart = elsewhere(database.iloc[ranking[:, :near].ravel()], num, radius_m)
        confidence = calibration.confidence(features(distances[:, :near], apart))
    first_hit = np.where(correct.any(axis=1), correct.argmax(axis=1) + 1, 0)
    conditions = _conditions(queries, database, positives)
    data: dict[str, Any] = {
        "name": name,
        "metrics": given.metrics,
        "interval": wilson(int((first_hit == 1).sum()), num) if labelled else None,
        "labelled": labelled,
        "num_predictions": k,
        "curve": recall_curve(table, num) if labelled else [],
        "conditions": _condition_bars(conditions, first_hit) if labelled else [],
        "errors": _error_shares(metres[:, 0]) if labelled and np.isfinite(metres).any() else [],
        "map": _map(database, queries),
        "calibration": None,
        "queries": {
            "image": [str(Path(image).name) for image in queries["image"]],
            "rank": first_hit.tolist() if labelled else [],
            "error_m": [round(float(v), 1) if np.isfinite(v) else None for v in metres[:, 0]],
            "confidence": [] if confidence is None else [round(float(v), 4) for v in confidence],
            "has_positive": [len(p) > 0 for p in positives] if positives is not None else [],
            "conditions": {key: _codes(values) for key, values in conditions.items()},
        },
    }
    if confidence is not None and labelled:
        curve = precision_recall(confidence, correct[:, 0])
        kept = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), 120)).astype(int))
        data["calibration"] = {
            "fitted_on": calibration.set if calibration else "",
            "error": round(calibration_error(confidence, correct[:, 0]), 4),
            "bins": reliability(confidence, correct[:, 0]).round(4).to_dict("records"),
            "precision_recall": curve.iloc[kept].round(4).to_dict("records"),
        }
    data["cards"] = _cards(given, ranking, distances, metres, correct, first_hit, positives, thumbnails)
    return data


def _codes(values: pd.Series) -> dict[str, Any]:
    categories = sorted(set(values) - {""})
    index = {value: k for k, value in enumerate(categories)}
    return {"values": categories, "codes": [index.get(value, -1) for value in values]}


def _conditions(queries: pd.DataFrame, database: pd.DataFrame, positives: Positives | None) -> dict[str, pd.Series]:
    """What is known of each query, as text: the dataset's columns, and distance and heading to the nearest positive."""
    known = {column: queries[column].fillna("").astype(str) for column in condition_columns(queries)}
    if positives is None or not (has_coordinates(database) and has_coordinates(queries)):
        return known
    offsets, turns = np.full(len(queries), np.nan), np.full(len(queries), np.nan)
    utm, query_utm = utm_of(database), utm_of(queries)
    headings = _turns(database, queries, positives)
    for q, near in enumerate(positives):
        if len(near):
            offsets[q] = np.hypot(*(utm[near] - query_utm[q]).T).min()
            if np.isfinite(headings[q]).any():
                turns[q] = np.nanmin(headings[q])
    for title, values, edges, unit in (
        ("distance to the nearest positive", offsets, DISTANCE_BINS_M, "m"),
        ("smallest heading difference to a positive", turns, HEADING_BINS_DEG, "°"),
    ):
        if np.isfinite(values).any():
            known[title] = pd.Series([_bin(v, edges, unit) for v in values])
    return known


def _turns(database: pd.DataFrame, queries: pd.DataFrame, positives: Positives) -> list[NDArray[np.float64]]:
    """Degrees between the headings of each query and of its positives; not a number where one is not known."""
    headings, own = (rows["heading"].to_numpy(dtype=float) for rows in (database, queries))
    return [np.abs((headings[near] - own[q] + 180) % 360 - 180) for q, near in enumerate(positives)]


def _bin(value: float, edges: Sequence[float], unit: str) -> str:
    if not np.isfinite(value):
        return ""
    for low, high in pairwise(edges):
        if value <= high:
            return f"{low:g} to {high:g} {unit}"
    return f"over {edges[-1]:g} {unit}"


def _condition_bars(conditions: dict[str, pd.Series], first_hit: NDArray[np.int64]) -> list[dict[str, Any]]:
    bars = []
    for title, values in conditions.items():
        rows = []
        for value in sorted(set(values) - {""}, key=lambda text: (_leading_number(text), text)):
            chosen = (values == value).to_numpy()
            found, number = int((first_hit[chosen] == 1).sum()), int(chosen.sum())
            low, high = wilson(found, number)
            rows.append(
                {"value": value, "n": number, "recall": found / number, "low": round(low, 4), "high": round(high, 4)}
            )
        if len(rows) > 1:
            bars.append({"title": title, "rows": rows})
    return bars


def _leading_number(text: str) -> float:
    digits = text.split(" ")[0]
    return float(digits) if digits.replace(".", "", 1).isdigit() else (1e9 if text.startswith("over") else -1.0)


def _error_shares(error_m: NDArray[np.float64]) -> list[dict[str, float]]:
    """Share of queries whose first prediction is at most so many metres away."""
    edges = [1, 2, 5, 10, 15, 20, 25, 50, 100, 200, 500, 1000, 2000, 5000, 10000]
    largest = np.nanmax(np.where(np.isfinite(error_m), error_m, 0))
    shown = [e for e in edges if e <= max(largest, 25)] + [e for e in edges if e > max(largest, 25)][:1]
    return [{"metres": float(e), "share": round(float((error_m <= e).mean()), 4)} for e in shown]


def _map(database: pd.DataFrame, queries: pd.DataFrame) -> dict[str, Any] | None:
    if not (has_coordinates(database) and has_coordinates(queries)):
        return None
    database_at, queries_at = _plane([database, queries])
    origin = np.minimum(database_at.min(axis=0), queries_at.min(axis=0))
    places = np.unique((database_at - origin).round(), axis=0)
    step = max(1, -(-len(places) // MAX_MAP_POINTS))
    return {
        "database": places[::step].astype(int).tolist(),
        "queries": (queries_at - origin).round(1).tolist(),
        "origin": [round(float(v), 1) for v in origin],
    }


def _plane(parts: list[pd.DataFrame]) -> list[NDArray[np.float64]]:
    """Metres east and north in one plane, also where the images lie in several UTM zones."""
    zones = {zone for rows in parts for zone in grids(rows["utm_zone"].to_list())}
    if len(zones) == 1:
        return [utm_of(rows) for rows in parts]
    degrees = []
    for rows in parts:
        east, north = utm_of(rows).T
        degrees.append(to_degrees(east, north, rows["utm_zone"].to_list()))
    middle = np.radians(np.nanmean(np.concatenate([lat for lat, _ in degrees])))
    return [np.stack([lon * 111_320 * np.cos(middle), lat * 111_320], axis=1) for lat, lon in degrees]


def _cards(
    given: SetInput,
    ranking: NDArray[np.int64],
    distances: NDArray[np.float64],
    metres: NDArray[np.float64],
    correct: NDArray[np.bool_],
    first_hit: NDArray[np.int64],
    positives: Positives | None,
    thumbnails: Thumbnails,
) -> list[dict[str, Any]]:
    """The gallery: queries with their predictions, wrong and right ones in turn, hardest first, within the budget."""
    database, queries = given.database.rows, given.queries.rows
    difficulty = np.where(first_hit == 0, ranking.shape[1] + 1, first_hit).astype(float) - 1e-3 * distances[:, 0]
    hardest = [int(q) for q in np.argsort(-difficulty, kind="stable")]
    wrong = [q for q in hardest if first_hit[q] != 1]
    right = [q for q in hardest if first_hit[q] == 1]
    order = [q for pair in zip(wrong, right, strict=False) for q in pair]
    order += wrong[len(right) :] + right[len(wrong) :]
    cards = []
    start = thumbnails.used
    located = positives is not None and has_coordinates(database) and has_coordinates(queries)
    utm, query_utm = utm_of(database), utm_of(queries)
    turns = _turns(database, queries, positives) if positives is not None else []
    for q in order:
        if thumbnails.used - start >= thumbnails.budget:
            break
        predictions = []
        for rank in range(min(SHOWN_PREDICTIONS, ranking.shape[1])):
            row = int(ranking[q, rank])
            predictions.append(
                {
                    "thumb": thumbnails.add(given.database.folder / database["image"].iloc[row]),
                    "image": Path(database["image"].iloc[row]).name,
                    "metres": round(float(metres[q, rank]), 1) if np.isfinite(metres[q, rank]) else None,
                    "similarity": round(1 - float(distances[q, rank]) ** 2 / 2, 3),
                    "correct": bool(correct[q, rank]) if positives is not None else None,
                }
            )
        card: dict[str, Any] = {
            "query": q,
            "thumb": thumbnails.add(given.queries.folder / queries["image"].iloc[q]),
            "predictions": predictions,
            "positive": None,
        }
        if positives is not None and len(positives[q]):
            nearest = int(positives[q][0])
            metres_to = None
            if located:
                # Of those that look the same way, where that is known.
                apart = np.hypot(*(utm[positives[q]] - query_utm[q]).T)
                best = int((apart + 1e6 * (turns[q] > SAME_WAY_DEG)).argmin())
                nearest, metres_to = int(positives[q][best]), round(float(apart[best]), 1)
            image = database["image"].iloc[nearest]
            card["positive"] = {
                "thumb": thumbnails.add(given.database.folder / image),
                "image": Path(image).name,
                "metres": metres_to,
            }
        cards.append(card)
    return cards


def add_other(
    data: dict[str, Any], given: SetInput, other: pd.DataFrame, metrics: dict[str, Any], thumbnails: Thumbnails
) -> None:
    """Set a second run beside the first.

    Args:
        other, metrics: the second run's predictions and metrics on the same set.
    """
    queries, database = given.queries.rows, given.database.rows
    by_query = dict(iter(other.groupby("query", sort=False)))
    data["other_metrics"] = metrics
    ordered = pd.concat([by_query[image] for image in queries["image"]])
    data["other_curve"] = recall_curve(ordered, len(queries)) if data["labelled"] else []
    known = set(database["image"])
    found = {}
    for q, image in enumerate(queries["image"]):
        rows = by_query[image]
        found[q] = bool(rows["is_positive"].iloc[0]) if data["labelled"] else False
    for card in data["cards"]:
        rows = by_query[queries["image"].iloc[card["query"]]].head(SHOWN_PREDICTIONS)
        card["other_found"] = found[card["query"]]
        card["other"] = [
            {
                "thumb": thumbnails.add(given.database.folder / row["prediction"])
                if row["prediction"] in known
                else None,
                "image": Path(row["prediction"]).name,
                "metres": round(float(row["distance_m"]), 1) if np.isfinite(row["distance_m"]) else None,
                "similarity": round(1 - float(row["descriptor_distance"]) ** 2 / 2, 3),
                "correct": bool(row["is_positive"]) if data["labelled"] else None,
            }
            for _, row in rows.iterrows()
        ]


def add_heat_maps(model: VPRModel, given: SetInput, data: dict[str, Any]) -> None:
    """Add to the first cards what makes query and first prediction similar, as rows of numbers from 0 to 9."""
    spec = model.spec
    preprocess = Preprocess(spec.image_size, spec.mean, spec.std)
    row_of = given.predictions[given.predictions["rank"] == 1].set_index("query")["prediction"]
    for card in data["cards"][:HEAT_MAPS]:
        query = given.queries.rows["image"].iloc[card["query"]]
        try:
            images: list[Image.Image] = [
                open_image(given.queries.folder / query),
                open_image(given.database.folder / row_of[query]),
            ]
        except OSError:
            continue
        maps = similarity_maps(model, *(preprocess(image) for image in images))
        card["heat"] = [["".join(str(min(9, int(v * 10))) for v in line) for line in m.tolist()] for m in maps]
