"""Sections ``export`` and ``extract`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vpr.config.params import Section
from vpr.data.ray_engine import require_engine
from vpr.model.spec import ListedImageSize


class ExportParams(Section):
    """Changes to the trained model before it is evaluated and used."""

    key = "export"

    checkpoint: Literal["best", "last"] = Field(description="`best` by the validation recalls, or `last`")
    image_size: ListedImageSize | None = Field(
        title="null or [height, width] in pixels",
        description="height and width in pixels that images are resized to; `null` for the size of the training",
    )
    pca_dim: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        description="size of the descriptors after PCA, fitted on training images; `null` for no PCA"
    )
    whiten: bool = Field(description="scale the directions of PCA so that all of them vary equally")
    pca_images: int = Field(ge=2, le=10_000_000, description="number of training images to fit PCA on")
    seed: int = Field(ge=0, le=2**32 - 1, description="seed for the choice of these images")


class ExtractParams(Section):
    """Settings of the extraction."""

    key = "extract"

    batch_size: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        description="images at a time; `null` takes as many as suit the device"
    )
    num_workers: Annotated[int, Field(ge=0, le=256)] | None = Field(
        description="loader processes; `null` takes one less than the cores, at most 8"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(description="`auto` takes a GPU if there is one")
    engine: Annotated[Literal["local", "ray"], AfterValidator(require_engine)] = Field(
        description="`local` computes in one process; `ray` on all GPUs of a machine or cluster, see docs/machines.md"
    )
