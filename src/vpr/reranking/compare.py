"""Compare queries with their candidates by local features, and count the inliers. An interrupted run continues."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vpr.config.progress import progress
from vpr.config.project import main_root
from vpr.data.images import open_image
from vpr.data.processes import in_processes
from vpr.descriptors.arrays import create_array
from vpr.descriptors.described_set import DescribedSet
from vpr.reranking.local_features import FEATURES, Keypoints, LocalFeatures, inliers
from vpr.reranking.params import RerankParams
from vpr.retrieval.search import similarity

_CHUNK = 16  # images that a process works on at a time
NOT_YET = -1


@dataclass(frozen=True)
class Compared:
    """The inliers between queries and their candidates.

    Attributes:
        ranking: Database rows of the candidates ``(num_queries, k)``, nearest first.
        inliers: Inliers of each candidate, ``(num_queries, k)``; 0 for queries that were not compared.
        chosen: Mask of the queries that were compared, ``(num_queries,)``.
        seconds: Time per query, including detection; work of an interrupted run is not counted.
    """

    ranking: NDArray[np.int64]
    inliers: NDArray[np.int64]
    chosen: NDArray[np.bool_]
    seconds: float

    def order(self, distances: NDArray[np.float32], weight: float | None) -> NDArray[np.int64]:
        """Return the order of the candidates, best first, ``(num_queries, k)``; ties keep their order.

        Args:
            distances: Descriptor distances of the candidates.
            weight: Candidates are sorted by similarity + weight × log(1 + inliers); ``None`` for inliers alone.
        """
        if weight is None:
            return np.argsort(-self.inliers, axis=1, kind="stable")
        return np.argsort(-(similarity(distances) + weight * np.log1p(self.inliers)), axis=1, kind="stable")


def compare(
    described: DescribedSet, ranking: NDArray[np.int64], chosen: NDArray[np.bool_], params: RerankParams
) -> Compared:
    """Count the inliers between queries and their candidates.

    Args:
        described: The evaluation set.
        ranking: Candidates ``(num_queries, k)``, nearest first.
        chosen: Mask of the queries to compare, ``(num_queries,)``.
        params: Section ``rerank``.

    Raises:
        UserError: if an image cannot be read.
    """
    started = time.monotonic()
    queries, database = described.queries, described.database
    rows = np.flatnonzero(chosen)
    all_inliers = np.zeros(ranking.shape, dtype=np.int64)
    if not len(rows):
        return Compared(ranking, all_inliers, chosen, 0.0)
    wanted = np.unique(ranking[rows])
    paths = [*(queries.paths[row] for row in rows), *(database.paths[row] for row in wanted)]
    contents = [*queries.rows["sha256"].iloc[rows], *database.rows["sha256"].iloc[wanted]]
    options = params.model_dump(exclude={"num_workers", "gate"})
    key = hashlib.sha256(repr((contents, ranking[rows].tolist(), options)).encode()).hexdigest()[:16]
    store = Store(main_root() / "data" / "scratch" / f"rerank-{key}", len(paths), params.num_keypoints, params.features)
    store.create((len(rows), ranking.shape[1]))
    detect_all(store, paths, params, described.name)
    place_of = {int(row): len(rows) + k for k, row in enumerate(wanted)}
    counts = store.open("inliers", "r+")
    to_do = [k for k in range(len(rows)) if (counts[k] == NOT_YET).any()]
    jobs = [(store, k, [place_of[int(candidate)] for candidate in ranking[rows[k]]]) for k in to_do]
    with progress(len(rows), f"{described.name}: comparing", "queries", len(rows) - len(to_do)) as bar:
        for k, found in zip(to_do, in_processes(count_inliers, jobs, params.num_workers), strict=True):
            counts[k] = found
            bar.update()
    all_inliers[rows] = counts
    shutil.rmtree(store.folder)
    return Compared(ranking, all_inliers, chosen, (time.monotonic() - started) / len(rows))


@dataclass(frozen=True)
class Store:
    """The keypoints of images, in files that processes share; each image has a fixed slot.

    Attributes:
        folder: Folder of the files.
        num_images: Number of slots.
        num_keypoints: Largest number of keypoints of an image.
        features: Name of the local features.
    """

    folder: Path
    num_images: int
    num_keypoints: int
    features: str

    def create(self, compared: tuple[int, int]) -> None:
        """Create the files if they do not exist.

        Args:
            compared: Number of queries, and of candidates of each.
        """
        kind = FEATURES[self.features]
        self.folder.mkdir(parents=True, exist_ok=True)
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "points": ((self.num_images, self.num_keypoints, 2), np.float32),
            "descriptors": ((self.num_images, self.num_keypoints, kind.dim), kind.dtype),
        }
        if not (self.folder / "counts.npy").is_file():
            for name, (shape, dtype) in shapes.items():
                create_array(self.folder / f"{name}.npy", shape, dtype)
            np.save(self.folder / "inliers.npy", np.full(compared, NOT_YET, np.int32))
            np.save(self.folder / "counts.npy", np.full(self.num_images, NOT_YET, np.int32))

    def open(self, name: str, mode: Any = "r") -> NDArray[Any]:
        """Open one of the files: ``points``, ``descriptors``, ``counts`` or ``inliers``."""
        found: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode=mode)
        return found

    def read(self, image: int) -> Keypoints:
        """Return the keypoints of an image."""
        number = int(_opened(self, "counts")[image])
        return Keypoints(_opened(self, "points")[image, :number], _opened(self, "descriptors")[image, :number])

    def write(self, image: int, found: Keypoints) -> None:
        """Store the keypoints of an image."""
        number = len(found.points)
        self.open("points", "r+")[image, :number] = found.points
        self.open("descriptors", "r+")[image, :number] = found.descriptors
        self.open("counts", "r+")[image] = number


@cache
def _opened(store: Store, name: str) -> NDArray[Any]:
    return store.open(name)


@cache
def features_of(name: str, num_keypoints: int) -> LocalFeatures:
    """Make the local features once in each process, which then uses one thread."""
    import torch

    torch.set_num_threads(1)
    return FEATURES[name](num_keypoints)


def shrunk(path: Path, max_side_px: int) -> NDArray[np.uint8]:
    """Read an image as RGB ``(H, W, 3)``, with no side longer than ``max_side_px``."""
    image = open_image(path)
    scale = min(1.0, max_side_px / max(image.size))
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.array(image)


def detect_all(store: Store, paths: Sequence[Path], params: RerankParams, name: str) -> None:
    """Detect the keypoints of each image that has none yet."""
    to_do = np.flatnonzero(store.open("counts") == NOT_YET)
    jobs = [
        (store, [(int(k), paths[k]) for k in to_do[start : start + _CHUNK]], params.max_side_px)
        for start in range(0, len(to_do), _CHUNK)
    ]
    with progress(len(paths), f"{name}: {params.features}", "images", len(paths) - len(to_do)) as bar:
        for number in in_processes(detect_some, jobs, params.num_workers):
            bar.update(number)


def detect_some(job: tuple[Store, list[tuple[int, Path]], int]) -> int:
    """Detect and store the keypoints of some images, and return how many images there were."""
    store, images, max_side_px = job
    for number, path in images:
        store.write(number, features_of(store.features, store.num_keypoints).detect(shrunk(path, max_side_px)))
    return len(images)


def count_inliers(job: tuple[Store, int, list[int]]) -> list[int]:
    """Count the inliers between an image and each of its candidates."""
    store, query, candidates = job
    features, own = features_of(store.features, store.num_keypoints), store.read(query)
    counts = []
    for candidate in candidates:
        other = store.read(candidate)
        pairs = features.matches(own, other)
        counts.append(int(inliers(own.points[pairs[:, 0]], other.points[pairs[:, 1]]).sum()))
    return counts
