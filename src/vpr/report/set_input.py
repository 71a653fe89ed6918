"""Gather what the report needs to know about an evaluation set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vpr.data.manifest import Manifest
from vpr.descriptors.described_set import DescribedSet
from vpr.evaluation.predictions import Predictions


@dataclass(frozen=True)
class SetInput:
    """An evaluation set with its predictions and metrics."""

    name: str
    database: Manifest
    queries: Manifest
    predictions: Predictions
    metrics: dict[str, Any]

    @classmethod
    def of(cls, described: DescribedSet, predictions: Predictions, metrics: dict[str, Any]) -> SetInput:
        """Combine the outputs of the extract and evaluate stages."""
        database, queries = described.database.manifest, described.queries.manifest
        return cls(described.name, database, queries, predictions, metrics)
