"""The section ``evaluate`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vpr.config.params import Options, Section


class SequenceParams(Options):
    """Settings of the hidden Markov model of a drive, see ``vpr.evaluation.sequences``."""

    reach: int = Field(
        ge=1,
        le=10_000,
        description="largest number of database frames that the camera moves between two successive queries",
    )
    step_m: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        description="largest distance in metres that the camera moves between two successive queries, for a database "
        "with positions but without an order; `null` to use `reach`"
    )
    jump: float = Field(gt=0, lt=1, description="probability of a jump to any place")
    temperature: float = Field(
        gt=0,
        le=10,
        description="increase in similarity that makes a place e (2.718) times as likely; if the loss has a "
        "temperature, use the same value",
    )


class EvaluateParams(Section):
    """Settings of the evaluation."""

    key = "evaluate"

    recall_at: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(min_length=1, description="the N of recall@N")
    positive_radius_m: float = Field(
        gt=0, le=1e8, description="radius around a query within which a database image is a positive, in metres"
    )
    num_predictions: int = Field(ge=1, le=10_000, description="predictions to keep for each query")
    centred: bool = Field(
        description="subtract the mean descriptor of the queries from each query, and that of the database from each "
        "database image. This removes what all photos share, such as the darkness of one night. It needs all queries "
        "of a set, so it does not apply to a single photo. Recalls computed in this way are marked `centred`"
    )
    index: str | None = Field(
        max_length=200,
        description="`null`, or a FAISS factory string. The recalls of that index, and the share of the exact "
        "neighbours that it finds, are reported in addition to the exact recalls. `SQfp16` stores descriptors in half "
        "precision, `SQ8` in a byte per number, `RaBitQ,RFlat` in a bit per number with the first 100 compared "
        "exactly; `IVF64,Flat` and `HNSW32` search a part of the database; `PQ64` and `IVF64,PQ64` compress",
    )
    sequence: SequenceParams | None = Field(
        description="`null`, or settings for locating the queries of a drive together (column `sequence`); adds "
        "`sequence_recall_at_<N>` to the recalls of single images"
    )
    faiss_gpu: bool = Field(description="search on the first GPU")
