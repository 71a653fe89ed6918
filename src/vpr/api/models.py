"""A trained model, ready to describe images: what ``vpr.load`` gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vpr.api.names import find_checkpoint
from vpr.config.errors import UserError
from vpr.config.progress import progress
from vpr.data.checksums import file_sha256
from vpr.data.preprocess import Preprocess
from vpr.model.checkpoint import load_checkpoint
from vpr.model.device import pick_device
from vpr.model.inference import for_inference, suitable_batch_size
from vpr.model.spec import ModelSpec

Photo = str | Path | Image.Image | NDArray[Any] | Tensor
"""A path, a PIL image, or RGB pixels of 0 to 255: an array ``(H, W, 3)`` or a tensor ``(3, H, W)``, both uint8."""


class Model:
    """A trained model.

    Attributes:
        network: maps images ``(B, 3, H, W)``, uint8, at ``image_size`` to descriptors ``(B, D)``; a torch module.
        spec: all that is needed to build it again.
        metadata: what it was trained with.
        sha256: of its checkpoint; an index belongs to the model that has the one it names.
        device: that it is on.
    """

    def __init__(self, checkpoint: Path, device: str | torch.device = "auto") -> None:
        """See ``load``."""
        self.network, self.metadata = load_checkpoint(checkpoint)
        self.device = device_of(device)
        self.network.to(self.device)
        self.checkpoint, self.sha256 = checkpoint, file_sha256(checkpoint)
        self._fast: torch.nn.Module | None = None

    def __repr__(self) -> str:
        spec = self.spec
        size = "×".join(map(str, spec.image_size))
        return f"<vpr.Model {spec.backbone} + {spec.aggregator}, {self.descriptor_dim} numbers, images {size}>"

    @property
    def spec(self) -> ModelSpec:
        """All that is needed to build the model again."""
        return self.network.spec

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width, in pixels, that images are resized to."""
        return self.spec.image_size

    @property
    def descriptor_dim(self) -> int:
        """D, the numbers of a descriptor."""
        return self.network.descriptor_dim

    def describe(
        self, images: Photo | Iterable[Photo], batch_size: int | None = None, show_progress: bool = False
    ) -> NDArray[np.float32]:
        """Descriptors ``(number, D)``, rows of unit norm, in the order of the images.

        Args:
            images: one or several, see ``Photo``; they are resized to ``image_size``. A tensor ``(B, 3, H, W)`` or an
                array ``(B, H, W, 3)`` holds several.
            batch_size: images at a time; by default as many as suit the device.
            show_progress: on stderr.

        Raises:
            UserError: for an image that can't be read; the message names it.
            TypeError: for what is no image.
        """
        photos = as_photos(images)
        out = np.empty((len(photos), self.descriptor_dim), dtype=np.float32)
        if not photos:
            return out
        if self._fast is None:
            self._fast = for_inference(self.network, self.device)
        preprocess = self.spec.preprocess()
        size = batch_size or suitable_batch_size(self._fast, torch.Size((3, *self.image_size)), self.device)
        with torch.inference_mode(), progress(len(photos), "describing", "images", disable=not show_progress) as bar:
            for start in range(0, len(photos), size):
                batch = torch.stack([as_pixels(photo, preprocess) for photo in photos[start : start + size]])
                out[start : start + size] = self._fast(batch.to(self.device)).float().cpu().numpy()
                bar.update(len(batch))
        return out


def load(name: str | Path, device: str | torch.device = "auto") -> Model:
    """A trained model.

    Args:
        name: the path of a checkpoint; a name of ``vpr models``, such as ``megaloc``, whose weights are fetched once;
            ``hf://owner/name`` of the Hugging Face Hub; ``models:/name@alias`` or ``runs:/id`` of MLflow.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        UserError: if there is none of that name, or what is there is no model.
    """
    return Model(find_checkpoint(name), device)


def device_of(device: str | torch.device) -> torch.device:
    """The device that a text names.

    Raises:
        UserError: if there is none of that name.
    """
    if str(device) == "auto":
        return pick_device("auto")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # torch has both for what is not there
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"device is {str(device)!r}: {reason}; expected auto, cpu, cuda or cuda:1") from None
    return found


def as_photos(images: Photo | Iterable[Photo]) -> Sequence[Photo]:
    """One image or several, as several.

    Raises:
        TypeError: for what is no image.
    """
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim == 4:
            return list(images)
        if images.ndim == 3:
            return [images]
        raise TypeError(f"an image has 3 dimensions, and several have 4; this has shape {tuple(images.shape)}")
    if isinstance(images, Iterable):
        return list(images)
    raise TypeError(f"expected images, not {type(images).__name__}")


def as_pixels(photo: Photo, preprocess: Preprocess) -> Tensor:
    """An image as ``(3, H, W)`` uint8, at the size that a model takes.

    Raises:
        UserError: if it can't be read.
        TypeError: if it is no image.
    """
    if isinstance(photo, str | Path):
        if not Path(photo).is_file():
            raise UserError(f"{photo}: no such file")
        return preprocess.read(Path(photo))
    if isinstance(photo, Image.Image):
        return preprocess(photo.convert("RGB"))
    if isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3:
        return preprocess.resized(torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1))
    if isinstance(photo, Tensor) and photo.dtype == torch.uint8 and photo.ndim == 3 and photo.shape[0] == 3:
        return preprocess.resized(photo.cpu())
    shape = f" {photo.dtype} of shape {tuple(photo.shape)}" if isinstance(photo, np.ndarray | Tensor) else ""
    raise TypeError(
        f"an image is a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W) of uint8, not a "
        f"{type(photo).__name__}{shape}"
    )
