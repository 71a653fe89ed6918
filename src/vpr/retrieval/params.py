"""``evaluate`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vpr.config.params import Options, Section


class SequenceParams(Options):
    """Settings of the hidden Markov model of a drive, see ``vpr.evaluation.sequences``."""

    reach: int = Field(
        ge=1, le=10_000, description="largest number of database frames that the camera passes between two queries"
    )
    step_m: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        description="the same in metres, for a database with positions but without an order; `null` to count frames"
    )
    jump: float = Field(gt=0, lt=1, description="probability of a jump to any place")
    temperature: float = Field(
        gt=0,
        le=10,
        description="difference in similarity that makes a place e times as likely; use the temperature of the loss "
        "if it has one",
    )


class EvaluateParams(Section):
    """Settings of the evaluation."""

    key = "evaluate"

    recall_at: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(min_length=1, description="the N of recall@N")
    positive_radius_m: float = Field(gt=0, le=1e8, description="a database image within it is a positive")
    num_predictions: int = Field(ge=1, le=10_000, description="predictions to keep for each query")
    centred: bool = Field(
        description="subtract the queries' mean descriptor from the queries, and the database's from the database: "
        "photos taken on the same night share a look that says nothing about the place. This needs all queries of a "
        "set, so it does not apply to a single photo; such recalls are marked `centred`"
    )
    index: str | None = Field(
        max_length=200,
        description="`null`, or a FAISS factory string: the recalls of that index, and the share of the exact "
        "neighbours that it finds, are added to the exact recalls. `SQfp16` stores descriptors in half precision, "
        "`SQ8` in a byte per number, `RaBitQ,RFlat` in a bit per number with the first 100 compared exactly; "
        "`IVF64,Flat` and `HNSW32` search a part of the database; `PQ64` and `IVF64,PQ64` compress",
    )
    sequence: SequenceParams | None = Field(
        description="`null`, or settings for smoothing ordered queries (column `sequence`) over a drive; adds "
        "`sequence_recall_at_<N>` to the recalls of single images"
    )
    faiss_gpu: bool = Field(description="search on the first GPU")
