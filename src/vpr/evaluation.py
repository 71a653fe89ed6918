"""Ranking + manifest rows -> recalls, recall by condition, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.datasets.manifest import COLUMNS, VERIFIED_COLUMNS
from vpr.retrieval import Positives, grids, hits, positives_by_place, positives_within, recall_at

MIN_VALUES, MAX_VALUES = 2, 12  # distinct values of a column that counts as a condition


@dataclass(frozen=True)
class Evaluation:
    """What is known of one evaluation set.

    Attributes:
        metrics: counts, what makes a positive, recalls and errors; no recalls where the set is unlabelled.
        curve: ``N, recall`` for each N up to the predictions kept; empty where unlabelled.
        conditions: ``condition, value, num_queries, recall_at_<N>...``; empty where unlabelled.
        predictions: a row for each query and rank.
    """

    metrics: dict[str, Any]
    curve: pd.DataFrame
    conditions: pd.DataFrame
    predictions: pd.DataFrame


def positives_of(database: pd.DataFrame, queries: pd.DataFrame, radius_m: float) -> Positives | None:
    """The positives of each query, or ``None`` for an unlabelled set."""
    kind = labels_of(database, queries)
    if kind == "listed":
        index = {frame: k for k, frame in enumerate(database["frame"])}
        listed = (text.split() for text in queries["positive_frames"])
        return [np.array(sorted(index[f] for f in frames if f in index), dtype=np.int64) for frames in listed]
    if kind == "distance":
        return positives_within(
            utm_of(database),
            utm_of(queries),
            radius_m,
            database["utm_zone"].to_list(),
            queries["utm_zone"].to_list(),
        )
    if kind == "place id":
        # An image without a place is a positive of nothing.
        known = [place if place else f"\0{k}" for k, place in enumerate(queries["place_id"])]
        return positives_by_place(database["place_id"].to_list(), known)
    return None


def labels_of(database: pd.DataFrame, queries: pd.DataFrame) -> Literal["listed", "distance", "place id", "none"]:
    """What makes the positives of a set: lists of frames, else coordinates, else place ids, else nothing."""
    if "frame" in database and "positive_frames" in queries and (queries["positive_frames"] != "").any():
        return "listed"
    if has_coordinates(database) and has_coordinates(queries):
        return "distance"
    if (database["place_id"] != "").any() and (queries["place_id"] != "").any():
        return "place id"
    return "none"


def has_coordinates(rows: pd.DataFrame) -> bool:
    """Whether every row has UTM coordinates."""
    return len(rows) > 0 and bool(np.isfinite(utm_of(rows)).all())


def utm_of(rows: pd.DataFrame) -> NDArray[np.float64]:
    """UTM east and north, ``(number, 2)``."""
    return rows[["utm_east", "utm_north"]].to_numpy(dtype=np.float64)


def evaluate_ranking(
    ranking: NDArray[np.int64],
    distances: NDArray[np.float32],
    database: pd.DataFrame,
    queries: pd.DataFrame,
    recalls: Sequence[int],
    radius_m: float,
) -> Evaluation:
    """Score one evaluation set.

    Args:
        ranking, distances: ``(num_queries, k)``, nearest first, as ``vpr.retrieval.search`` returns them.
        database, queries: manifest rows, in the order of the descriptors.
        recalls: the N of recall@N.
        radius_m: a database image within it is a positive.
    """
    kind = labels_of(database, queries)
    located = kind == "distance"
    metrics: dict[str, Any] = {
        "num_database": len(database),
        "num_queries": len(queries),
        "positives": f"{radius_m:g} m" if located else kind,
    }
    if located:
        metrics["positive_radius_m"] = radius_m
    positives = positives_of(database, queries, radius_m)
    error_m = _distances_m(ranking, database, queries) if located else None
    correct = None
    curve, conditions = pd.DataFrame(), pd.DataFrame()
    if positives is not None:
        correct = hits(ranking, positives)
        metrics["num_queries_without_positives"] = sum(len(p) == 0 for p in positives)
        metrics |= {f"recall_at_{n}": r for n, r in recall_at(ranking, positives, recalls).items()}
        ns = list(range(1, ranking.shape[1] + 1))
        curve = pd.DataFrame({"N": ns, "recall": list(recall_at(ranking, positives, ns).values())})
        conditions = _by_condition(ranking, positives, queries, recalls)
    if error_m is not None:
        # "lower" picks one of the values, so that infinity, for another UTM grid, stays out of the arithmetic.
        for name, share in (("median_error_m", 50), ("p90_error_m", 90)):
            error = float(np.percentile(error_m[:, 0], share, method="lower" if np.isinf(error_m).any() else "linear"))
            if np.isfinite(error):
                metrics[name] = round(error, 2)
    num_queries, k = ranking.shape
    predictions = pd.DataFrame(
        {
            "query": np.repeat(queries["image"].to_numpy(dtype=object), k),
            "rank": np.tile(np.arange(1, k + 1), num_queries),
            "prediction": database["image"].to_numpy(dtype=object)[ranking.ravel()],
            "descriptor_distance": distances.ravel(),
            "distance_m": np.full(num_queries * k, np.nan) if error_m is None else error_m.ravel().round(2),
            "is_positive": pd.array(
                [None] * (num_queries * k) if correct is None else correct.ravel().tolist(), dtype="boolean"
            ),
        }
    )
    return Evaluation(metrics, curve, conditions, predictions)


def _distances_m(ranking: NDArray[np.int64], database: pd.DataFrame, queries: pd.DataFrame) -> NDArray[np.float64]:
    """Metres from each query to each of its predictions; infinite across UTM zones."""
    offset = utm_of(database)[ranking] - utm_of(queries)[:, None]
    metres = np.hypot(offset[..., 0], offset[..., 1])
    same_grid = grids(database["utm_zone"].to_list())[ranking] == grids(queries["utm_zone"].to_list())[:, None]
    return np.where(same_grid, metres, np.inf)


def is_number(values: pd.Series) -> bool:
    """Whether a column holds numbers, also if they came as text; true and false are no numbers."""
    if pd.api.types.is_bool_dtype(values):
        return False
    filled = values[values.notna() & (values != "")]
    return len(filled) > 0 and bool(pd.to_numeric(filled, errors="coerce").notna().all())


def condition_columns(queries: pd.DataFrame) -> list[str]:
    """Columns by whose values recall is told apart: texts of a few values, such as day and night."""
    known = {"image", "role", "set", "place_id", "frame", "positive_frames", *VERIFIED_COLUMNS}
    columns = []
    for column in queries.columns:
        if column in known or (column in COLUMNS and COLUMNS[column] != "str"):
            continue
        values = queries[column]
        if not is_number(values) and MIN_VALUES <= (values[values != ""]).nunique() <= MAX_VALUES:
            columns.append(column)
    return columns


def _by_condition(
    ranking: NDArray[np.int64], positives: Positives, queries: pd.DataFrame, recalls: Sequence[int]
) -> pd.DataFrame:
    rows = []
    for column in condition_columns(queries):
        values = queries[column]
        for value in sorted(set(values.dropna()) - {""}, key=str):
            chosen = np.flatnonzero((values == value).to_numpy())
            scores = recall_at(ranking[chosen], [positives[q] for q in chosen], recalls)
            rows.append(
                {
                    "condition": column,
                    "value": str(value),
                    "num_queries": len(chosen),
                    **{f"recall_at_{n}": r for n, r in scores.items()},
                }
            )
    return pd.DataFrame(rows)
