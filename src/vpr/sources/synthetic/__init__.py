"""The embedded city: a dataset that is drawn from a seed, with the columns of a real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from vpr.config.errors import UserError
from vpr.config.params import Options
from vpr.data.manifest import Manifest
from vpr.sources.base import DATASETS, Context, DatasetAdapter

Share = Annotated[float, Field(ge=0, le=1)]


class SyntheticParams(Options):
    """Options of the embedded city."""

    seed: int = Field(ge=0, le=2**32 - 1, description="seed of the city and its photos")
    width: int = Field(ge=1, le=8192, description="width of an image in pixels")
    height: int = Field(ge=1, le=8192, description="height of an image in pixels")
    train_cities: int = Field(ge=1, le=10_000, description="number of cities with training places")
    train_places: int = Field(
        ge=1, le=10_000_000, description="number of training places, at least 100 m apart within a city"
    )
    images_per_place: list[Annotated[int, Field(ge=1, le=1000)]] = Field(
        min_length=2, max_length=2, title="[least, most]", description="least and most images of a place"
    )
    blocks: int = Field(
        ge=2, le=1000, description="number of blocks along each side of an evaluation city, about 90 m each"
    )
    database_spacing_m: float = Field(
        ge=0.1, le=1e6, description="distance between adjacent database positions along a street, in metres"
    )
    database_headings: int = Field(
        ge=1, le=360, description="number of images at each database position, at evenly spaced headings"
    )
    num_queries: int = Field(ge=1, le=10_000_000, description="number of queries of each evaluation set")
    variety: Share = Field(description="0 for clear days of the warm months, 1 for every season, weather and hour")
    night: Share = Field(description="share of photos taken at night, in training and in the sets `val` and `test`")
    night_queries: Share = Field(description="share of the queries of the set `night` that are taken at night")
    query_heading_sd_deg: float = Field(
        ge=0,
        le=360,
        description="standard deviation of a query's heading from the nearest database heading, in degrees",
    )
    years: list[Annotated[int, Field(ge=1900, le=2100)]] = Field(
        min_length=2, max_length=2, title="[first, last]", description="first and last year of the photos"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> SyntheticParams:
        least, most = self.images_per_place
        if not 1 <= least <= most:
            raise ValueError(f"images_per_place is {self.images_per_place}; expected [least, most]")
        if not 1900 <= self.years[0] <= self.years[1] <= 2100:
            raise ValueError(f"years is {self.years}; expected [first, last] between 1900 and 2100")
        if self.train_places < self.train_cities:
            raise ValueError(f"train_places is {self.train_places}, fewer than train_cities {self.train_cities}")
        return self


@DATASETS.register("synthetic", "")
class Synthetic(DatasetAdapter):
    """The embedded city, drawn offline."""

    Params = SyntheticParams

    def check_chosen(self, params: SyntheticParams, context: Context, where: str, set_names: Sequence[str]) -> None:
        from vpr.sources.synthetic.photos import EVAL_SETS  # numba takes a second to import

        unknown = [name for name in set_names if name not in EVAL_SETS]
        if unknown:
            raise UserError(
                f"dataset synthetic has no evaluation set {unknown[0]!r}, which eval_sets or val_set names; it has "
                f"{', '.join(EVAL_SETS)}"
            )

    def num_places(self, params: SyntheticParams, context: Context) -> int:
        return params.train_places

    def num_images(self, params: SyntheticParams, context: Context) -> int:
        return params.train_places * params.images_per_place[1]

    def prepare(self, params: SyntheticParams, context: Context) -> Manifest:
        """Draw missing images and list all of them."""
        from vpr.sources.synthetic.photos import draw  # numba takes a second to import

        return draw(params)
