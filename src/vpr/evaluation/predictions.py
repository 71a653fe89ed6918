"""The predictions of each query, and whether they are positives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.config.errors import UserError


@dataclass(frozen=True)
class Predictions:
    """The predictions of an evaluation set, nearest first.

    Attributes:
        queries: Image of each query, ``(num_queries,)``.
        images: Predicted database images, ``(num_queries, k)``.
        ranking: Rows of these images in the database, ``(num_queries, k)``.
        distances: L2 distances of the descriptors, ``(num_queries, k)``.
        distance_m: Metres from the query, ``(num_queries, k)``; infinite if a position is unknown, NaN if all are.
        is_positive: Mask of the predictions that are positives, ``(num_queries, k)``; ``None`` for an unlabelled set.
    """

    queries: NDArray[np.object_]
    images: NDArray[np.object_]
    ranking: NDArray[np.int64]
    distances: NDArray[np.float32]
    distance_m: NDArray[np.float64]
    is_positive: NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def num_kept(self) -> int:
        """Number of predictions of each query."""
        return int(self.ranking.shape[1])

    def first(self, k: int) -> Predictions:
        """Return the first ``k`` predictions of each query."""
        correct = None if self.is_positive is None else self.is_positive[:, :k]
        return Predictions(
            self.queries,
            self.images[:, :k],
            self.ranking[:, :k],
            self.distances[:, :k],
            self.distance_m[:, :k],
            correct,
        )

    def save(self, path: Path) -> None:
        """Write a Parquet table with a row for each query and rank."""
        num_queries, k = self.ranking.shape
        correct = [None] * (num_queries * k) if self.is_positive is None else self.is_positive.ravel().tolist()
        table = pd.DataFrame(
            {
                "query": np.repeat(self.queries, k),
                "rank": np.tile(np.arange(1, k + 1), num_queries),
                "prediction": self.images.ravel(),
                "database_row": self.ranking.ravel(),
                "descriptor_distance": self.distances.ravel(),
                "distance_m": self.distance_m.ravel(),
                "is_positive": pd.array(correct, dtype="boolean"),
            }
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what ``save`` wrote.

        Raises:
            UserError: if an earlier version of the project wrote the table.
        """
        table = pd.read_parquet(path)
        if "database_row" not in table:
            raise UserError(
                f"{path}: an earlier version of this project wrote these predictions; run `dvc repro evaluate` again"
            )
        k = int(table["rank"].max())

        def grid(column: str, dtype: Any) -> Any:
            return table[column].to_numpy(dtype=dtype).reshape(-1, k)

        labelled = bool(table["is_positive"].notna().all())
        return cls(
            table["query"].to_numpy(dtype=object)[::k],
            grid("prediction", object),
            grid("database_row", np.int64),
            grid("descriptor_distance", np.float32),
            grid("distance_m", np.float64),
            grid("is_positive", bool) if labelled else None,
        )


def first_is_positive(path: Path) -> pd.Series:
    """Return whether each query's first prediction is a positive, by the query's image.

    Raises:
        UserError: for an unlabelled set.
    """
    table = pd.read_parquet(path, columns=["query", "rank", "is_positive"])
    first = table[table["rank"] == 1].set_index("query")["is_positive"]
    if first.isna().any():
        raise UserError("the set has no labels, so runs cannot be compared on it")
    return first.astype(bool)
