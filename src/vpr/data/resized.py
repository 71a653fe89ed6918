"""Resized copies of the training images, stored once as JPEGs, for large photos that do not fit in memory decoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field

from vpr.config.atomic_files import atomic_write
from vpr.config.params import Section
from vpr.config.progress import progress
from vpr.config.project import resolve_root
from vpr.data.manifest import Manifest
from vpr.data.processes import in_processes

CHUNK = 64


class ResizeParams(Section):
    """``resize`` of ``params.yaml``: train on the images themselves, or on small copies."""

    key = "resize"

    quality: Annotated[int, Field(ge=1, le=100)] | None = Field(
        description="`null` for no copies; a number stores the training images at the training size as JPEGs of that "
        "quality, under `$DATA_ROOT`, and trains on them. This pays if photos are much larger than `image_size` and do "
        "not fit in `train.cache_gb`"
    )
    num_workers: Annotated[int, Field(ge=1, le=256)] | None = Field(description="processes; `null` for all cores")


@dataclass(frozen=True)
class Resized:
    """The result of the resize stage.

    Attributes:
        root: Root of the copies, see ``resolve_root``; ``None`` if there are no copies.
    """

    root: str | None = None

    def save(self, path: Path) -> None:
        """Write this object as JSON."""
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Resized:
        """Read what ``save`` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def locate(self, manifest: Manifest, images: Sequence[str]) -> tuple[Path, list[str]]:
        """Return the folder to read images from, and their paths in it."""
        if self.root is None:
            return manifest.folder, list(images)
        return resolve_root(self.root), [copy_of(image) for image in images]


def copy_of(image: str) -> str:
    """Return the path of an image's copy, which no other image's copy has."""
    return f"{image}.jpg"


def store_resized(manifest: Manifest, image_size: Sequence[int], quality: int, num_workers: int | None) -> Resized:
    """Write the copies that do not exist yet; an interrupted run continues.

    The images, the size and the quality determine the folder's name, so that copies are never mixed.

    Args:
        manifest: Manifest of the training images.
        image_size: Height and width in pixels.
        quality: Quality of the JPEGs.
        num_workers: Number of processes; ``None`` for all cores.

    Raises:
        UserError: if an image cannot be read.
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
        pixels = preprocess.read(folder / image).permute(1, 2, 0).contiguous().numpy()
        with atomic_write(target / copy_of(image)) as part:
            Image.fromarray(pixels).save(part, "JPEG", quality=quality, subsampling=0)
    return len(images)
