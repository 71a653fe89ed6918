"""Training images at the training size, stored once as JPEGs: for large photos that do not fit in memory decoded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from vpr.config.progress import progress
from vpr.config.project import resolve_root
from vpr.data.manifest import Manifest
from vpr.data.processes import in_processes

CHUNK = 64


@dataclass(frozen=True)
class Resized:
    """What the resize stage leaves.

    Attributes:
        root: of the copies, see ``resolve_root``; ``None`` where there are none.
    """

    root: str | None = None

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Resized:
        """Read what ``save`` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def locate(self, manifest: Manifest, images: Sequence[str]) -> tuple[Path, list[str]]:
        """The folder to read from, and the paths in it."""
        if self.root is None:
            return manifest.folder, list(images)
        return resolve_root(self.root), [copy_of(image) for image in images]


def copy_of(image: str) -> str:
    """The path of an image's copy."""
    return image if image.lower().endswith((".jpg", ".jpeg")) else f"{image}.jpg"


def store_resized(manifest: Manifest, image_size: Sequence[int], quality: int, num_workers: int | None) -> Resized:
    """Write the copies that are not there yet; an interrupted run continues.

    The folder's name follows from the images, the size and the quality, so that copies are never mixed.

    Args:
        image_size: height and width in pixels.
        quality: of the JPEGs.
        num_workers: processes; ``None`` takes all cores.

    Raises:
        UserError: if an image can't be read.
    """
    rows = manifest.train()
    content = [manifest.name, list(image_size), quality, pd.util.hash_pandas_object(rows[["image", "sha256"]]).tolist()]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
    resized = Resized(f"data:{manifest.name}-{image_size[0]}x{image_size[1]}-{digest}")
    target = resolve_root(str(resized.root))
    images = [image for image in rows["image"] if not (target / copy_of(image)).is_file()]
    title = f"storing {image_size[0]}x{image_size[1]} copies"
    with progress(len(rows), title, "images", len(rows) - len(images)) as bar:
        jobs = [
            (manifest.folder, target, (image_size[0], image_size[1]), quality, images[k : k + CHUNK])
            for k in range(0, len(images), CHUNK)
        ]
        for number in in_processes(_store, jobs, num_workers):
            bar.update(number)
    return resized


Job = tuple[Path, Path, tuple[int, int], int, list[str]]


def _store(job: Job) -> int:
    import torch
    from PIL import Image

    from vpr.data.preprocess import Preprocess

    torch.set_num_threads(1)
    folder, target, image_size, quality, images = job
    preprocess = Preprocess(image_size)
    for image in images:
        path = target / copy_of(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        pixels = preprocess.read(folder / image).permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(pixels).save(part, "JPEG", quality=quality, subsampling=0)
        part.replace(path)
    return len(images)
