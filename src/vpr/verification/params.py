"""Section ``verify`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vpr.config.params import Section
from vpr.data.ray_engine import require_engine


class VerifyParams(Section):
    """Settings of the verify stage."""

    key = "verify"

    on_problem: Literal["fail", "skip"] = Field(
        description="`fail` stops with the list of all problems; `skip` leaves the rows out and counts them"
    )
    on_count_difference: Literal["fail", "warn"] = Field(
        description="action if a source holds more or fewer images than expected: `fail` or `warn`"
    )
    queries_without_positives: Literal["keep", "leave_out"] = Field(
        description="`keep` counts these queries as not found, as published recalls do; `leave_out` removes them"
    )
    num_workers: Annotated[int, Field(ge=1, le=256)] | None = Field(
        description="number of processes; `null` for all cores"
    )
    engine: Annotated[Literal["local", "ray"], AfterValidator(require_engine)] = Field(
        description="`local` reads files in processes of this machine, `ray` in tasks of a cluster, see "
        "docs/machines.md"
    )
