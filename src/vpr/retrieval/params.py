"""``evaluate`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vpr.config.params import Section


class EvaluateParams(Section):
    """How descriptors become recalls."""

    key = "evaluate"

    recall_at: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(min_length=1, description="the N of recall@N")
    positive_radius_m: float = Field(gt=0, le=1e8, description="a database image within it is a positive")
    num_predictions: int = Field(ge=1, le=10_000, description="predictions kept of each query")
    faiss_gpu: bool = Field(description="search on the first GPU")
