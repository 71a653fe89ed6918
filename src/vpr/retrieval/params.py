"""``evaluate`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vpr.config.params import Options, Section


class SequenceParams(Options):
    """A drive as a hidden Markov model, see ``vpr.retrieval.sequences``."""

    reach: int = Field(
        ge=1, le=10_000, description="database frames that the camera passes at most from query to query"
    )
    step_m: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        description="metres instead of frames, for a database with positions that is in no order"
    )
    jump: float = Field(gt=0, lt=1, description="probability of a jump anywhere")
    temperature: float = Field(
        gt=0,
        le=10,
        description="a similarity greater by so much is e times as likely; that of the loss, where it has one",
    )


class EvaluateParams(Section):
    """How descriptors become recalls."""

    key = "evaluate"

    recall_at: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(min_length=1, description="the N of recall@N")
    positive_radius_m: float = Field(gt=0, le=1e8, description="a database image within it is a positive")
    num_predictions: int = Field(ge=1, le=10_000, description="predictions kept of each query")
    centred: bool = Field(
        description="subtract from the queries their own mean descriptor, and from the database its own, before "
        "anything is compared: what all photos of one night have in common tells no places apart. All queries of a set "
        "have to be known for it, so it is of no use for a single photo, and such recalls say `centred`"
    )
    index: str | None = Field(
        max_length=200,
        description="`null`, or a FAISS factory string: the recalls of that index, and how many of the exact "
        "neighbours it finds, are added to the exact recalls. `SQfp16` keeps descriptors in half precision, `SQ8` in a "
        "byte a number, `RaBitQ,RFlat` in a bit a number with the first 100 compared again, `IVF64,Flat` and `HNSW32` "
        "look at a part of the database, `PQ64` and `IVF64,PQ64` compress",
    )
    sequence: SequenceParams | None = Field(
        description="`null`, or how queries that come in order (column `sequence`) are smoothed over a drive; adds "
        "`sequence_recall_at_<N>` to the recalls of images alone"
    )
    faiss_gpu: bool = Field(description="search on the first GPU")
