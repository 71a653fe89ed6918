"""``resize`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vpr.config.params import Section


class ResizeParams(Section):
    """Whether training reads the images themselves, or small copies."""

    key = "resize"

    quality: Annotated[int, Field(ge=1, le=100)] | None = Field(
        description="`null` for none; a number stores the training images at the training size as JPEGs of that "
        "quality, under `$DATA_ROOT`, and trains on them. It pays where photos are much larger than `image_size` and "
        "do not fit in `train.cache_gb`"
    )
    num_workers: Annotated[int, Field(ge=1, le=256)] | None = Field(description="processes; `null` takes all cores")
