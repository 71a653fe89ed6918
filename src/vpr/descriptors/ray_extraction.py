"""Describe images with Ray Data, on as many machines as there are.

Tasks decode the images, and actors that hold the model describe them; without a GPU, an actor does both.

The images are divided into shards. The descriptors of a shard are written completely or not at all, into a folder of
this extraction, so that neither an interruption nor a lost machine makes finished shards run again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from vpr.config.atomic_files import atomic_write
from vpr.config.progress import progress
from vpr.config.project import main_root
from vpr.data.checksums import file_sha256
from vpr.data.loading import ImageList
from vpr.data.ray_engine import ray_cluster
from vpr.descriptors.trained_model import Model
from vpr.model.checkpoint import load_checkpoint
from vpr.model.device import pick_device
from vpr.model.spec import ModelSpec

Write = Callable[[dict[str, Any], NDArray[np.float32]], None]
SHARD = 512  # images; a multiple of a CPU's batch size, so that batches equal those of the local engine


class _Decoded(Dataset[torch.Tensor]):
    """The pixels of a shard."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = torch.from_numpy(np.array(pixels))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.pixels[index]


def _decode(row: dict[str, Any], folder: str, spec: ModelSpec) -> dict[str, Any]:
    """Add the pixels ``(number, 3, H, W)`` to a shard."""
    images = ImageList(Path(folder), [str(name) for name in row["images"]], spec.preprocess())
    return {**row, "pixels": torch.stack([images[k] for k in range(len(images))]).numpy()}


@dataclass(frozen=True)
class _ToFile:
    """Writes the descriptors of each shard into a file."""

    folder: str

    def __call__(self, shard: dict[str, Any], descriptors: NDArray[np.float32]) -> None:
        with atomic_write(_file(Path(self.folder), int(shard["shard"]))) as part, part.open("wb") as file:
            np.save(file, descriptors)


class _Describe:
    """Holds the model, and writes the descriptors of shards."""

    def __init__(self, checkpoint: str, accelerator: str, batch_size: int | None, write: Write) -> None:
        self.model = Model(Path(checkpoint), pick_device(accelerator))
        self.batch_size, self.write = batch_size, write

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        images: Any = _Decoded(row.pop("pixels"))
        self.write(row, self.model.describe(images, self.batch_size, title=f"shard {row['shard']}"))
        return {"number": len(images)}


def extract_with_ray(
    checkpoint: Path,
    images: ImageList,
    sha256: Sequence[str],
    out: NDArray[np.float32],
    accelerator: str,
    batch_size: int | None,
    title: str,
) -> None:
    """Write the descriptor of each image into ``out``; see ``vpr.model.describing.Describer``.

    Args:
        checkpoint: Checkpoint of the model; every machine reads it.
        images: Images to describe.
        sha256: Hash of each image's file, so that shards left by an interrupted run on other images are not reused.
        out: Array ``(number of images, D)`` to write into.
        accelerator: Device to use on each machine: ``auto``, ``cpu`` or ``gpu``.
        batch_size: Images at a time; ``None`` for as many as suit the device.
        title: Name of the work in messages.

    Raises:
        UserError: if an image cannot be read, a descriptor is not finite, or Ray cannot be reached.
    """
    digest = hashlib.sha256(f"{file_sha256(checkpoint)} {images.folder} {batch_size}".encode())
    digest.update("\n".join(f"{name} {content}" for name, content in zip(images.images, sha256, strict=True)).encode())
    shards = main_root() / "data" / "scratch" / f"extract-{digest.hexdigest()[:16]}"
    shards.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(images), SHARD)
    to_do: list[dict[str, Any]] = [
        {"shard": k, "images": images.images[start : start + SHARD]}
        for k, start in enumerate(starts)
        if not _file(shards, k).is_file()
    ]
    describe_shards(to_do, checkpoint, images, _ToFile(str(shards)), accelerator, batch_size, title)
    for k, start in enumerate(starts):
        out[start : start + SHARD] = np.load(_file(shards, k))
    shutil.rmtree(shards)


def describe_shards(
    to_do: list[dict[str, Any]],
    checkpoint: Path,
    images: ImageList,
    write: Write,
    accelerator: str,
    batch_size: int | None,
    title: str,
) -> None:
    """Pass the descriptors of each shard to ``write``, on the machine that computed them.

    Args:
        to_do: Shards, each with its number ``shard``, its ``images``, and whatever else ``write`` needs.
        checkpoint: Checkpoint of the model; every machine reads it.
        images: The images of all shards.
        write: Function of a shard and its descriptors; called again for a shard whose machine was lost.
        accelerator: Device to use on each machine: ``auto``, ``cpu`` or ``gpu``.
        batch_size: Images at a time; ``None`` for as many as suit the device.
        title: Name of the work in messages.

    Raises:
        UserError: if an image cannot be read, a descriptor is not finite, or Ray cannot be reached.
    """
    done = len(images) - sum(len(shard["images"]) for shard in to_do)
    with progress(len(images), title, "images", done) as bar, ray_cluster() as ray:
        if not to_do:
            return
        from ray import data

        data.DataContext.get_current().enable_progress_bars = False
        resources = ray.cluster_resources()
        num_gpus = int(resources.get("GPU", 0)) if accelerator != "cpu" else 0
        machines = sum(node["Alive"] for node in ray.nodes())
        spec = load_checkpoint(checkpoint)[0].spec
        described = (
            data.from_items(to_do, override_num_blocks=len(to_do))
            .map(_decode, fn_kwargs={"folder": str(images.folder), "spec": spec})
            .map(
                _Describe,
                fn_constructor_args=(str(checkpoint.resolve()), accelerator, batch_size, write),
                compute=data.ActorPoolStrategy(min_size=1, max_size=max(1, num_gpus or machines)),
                num_gpus=1 if num_gpus else None,
                num_cpus=None if num_gpus else 1,
            )
        )
        for row in described.iter_rows():
            bar.update(int(row["number"]))


def _file(shards: Path, number: int) -> Path:
    return shards / f"{number:08d}.npy"
