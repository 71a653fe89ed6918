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
    index: str | None = Field(
        max_length=200,
        description="`null`, or a FAISS factory string: the recalls of that index, and how many of the exact "
        "neighbours it finds, are added to the exact recalls. `SQfp16` keeps descriptors in half precision, `SQ8` in a "
        "byte a number, `RaBitQ,RFlat` in a bit a number with the first 100 compared again, `IVF64,Flat` and `HNSW32` "
        "look at a part of the database, `PQ64` and `IVF64,PQ64` compress",
    )
    faiss_gpu: bool = Field(description="search on the first GPU")
