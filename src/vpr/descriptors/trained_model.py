"""A trained model on a device, ready to describe images."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vpr.config.errors import UserError, one_line
from vpr.data.checksums import file_sha256
from vpr.data.images import ImageError, as_rgb, pixels_of
from vpr.data.loading import ImageList
from vpr.data.preprocess import Preprocess
from vpr.model.checkpoint import load_checkpoint
from vpr.model.describing import Describer
from vpr.model.device import pick_device
from vpr.model.spec import ModelSpec

Photo = str | Path | bytes | bytearray | memoryview | io.IOBase | Image.Image | NDArray[Any] | Tensor
"""A path, a PIL image, or RGB pixels from 0 to 255: an array ``(H, W, 3)`` or a tensor ``(3, H, W)``, both uint8."""


class Model:
    """A trained model.

    Args:
        checkpoint: Path of the checkpoint.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or a torch device.

    Attributes:
        network: Torch module that maps images ``(B, 3, H, W)``, uint8, at ``image_size`` to descriptors ``(B, D)``.
        metadata: Settings that the model was trained with.
        checkpoint: Path of the checkpoint.
        sha256: Hash of the checkpoint; an index names the model that described it by this hash.
        device: Device that the model is on.
    """

    def __init__(self, checkpoint: Path, device: str | torch.device = "auto") -> None:
        self.network, self.metadata = load_checkpoint(checkpoint)
        self.device = device_of(device)
        self.network.to(self.device)
        self.checkpoint, self.sha256 = checkpoint, file_sha256(checkpoint)
        self._describer: Describer | None = None

    def __repr__(self) -> str:
        spec = self.spec
        size = "×".join(map(str, spec.image_size))
        return f"<vpr.Model {spec.backbone} + {spec.aggregator}, {self.descriptor_dim} numbers, images {size}>"

    @property
    def spec(self) -> ModelSpec:
        """Everything needed to build the model again."""
        return self.network.spec

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels that images are resized to."""
        return self.spec.image_size

    @property
    def descriptor_dim(self) -> int:
        """Size of a descriptor, D."""
        return self.network.descriptor_dim

    def describe(
        self,
        images: Photo | Iterable[Photo] | Dataset[Tensor],
        batch_size: int | None = None,
        show_progress: bool = False,
        num_workers: int | None = 0,
        out: NDArray[np.float32] | None = None,
        title: str = "describing",
    ) -> NDArray[np.float32]:
        """Return descriptors ``(number, D)``, rows of unit norm, in the order of the images.

        Args:
            images: One or several photos, see ``Photo``; they are resized to ``image_size``. A tensor ``(B, 3, H, W)``
                or an array ``(B, H, W, 3)`` holds several. A torch dataset of images ``(3, H, W)`` that already have
                the model's size is accepted as well.
            batch_size: Images at a time; by default as many as suit the device.
            show_progress: Show progress on stderr.
            num_workers: Loader processes; ``None`` for one less than the cores, at most 8.
            out: Array ``(number, D)`` to write into, such as a memory map; by default a new array.
            title: Name of the work in messages.

        Raises:
            UserError: for an image that cannot be read; the message names it.
            TypeError: for anything that is not an image.
        """
        dataset: Any = images if isinstance(images, Dataset) else PhotoList(as_photos(images), self.spec.preprocess())
        if out is None:
            out = np.empty((len(dataset), self.descriptor_dim), dtype=np.float32)
        if self._describer is None:
            self._describer = Describer(self.network, self.device)
        return self._describer.describe(dataset, out, batch_size, num_workers, title, show_progress)

    def images(self, folder: Path, names: Iterable[str]) -> ImageList:
        """Return image files as a dataset that ``describe`` takes.

        Args:
            folder: Folder that the names start from.
            names: Paths of the images in the folder.
        """
        return ImageList(folder, names, self.spec.preprocess())


class PhotoList(Dataset[Tensor]):
    """Photos in any form as tensors ``(3, H, W)``, uint8, at the size that a model takes."""

    def __init__(self, photos: Sequence[Photo], preprocess: Preprocess) -> None:
        self.photos, self.preprocess = photos, preprocess

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Tensor:
        return as_pixels(self.photos[index], self.preprocess)


def device_of(device: str | torch.device) -> torch.device:
    """Return the device that a text names.

    Raises:
        UserError: if there is no such device.
    """
    if str(device) == "auto":
        return pick_device("auto")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # torch raises either for a missing device
        raise UserError(
            f"device is {str(device)!r}: {one_line(error, 200)}; expected auto, cpu, cuda or cuda:1"
        ) from None
    return found


def as_photos(images: Photo | Iterable[Photo]) -> Sequence[Photo]:
    """Return one or several photos as a sequence.

    Raises:
        TypeError: for anything that is not an image.
    """
    if isinstance(images, str | bytes | bytearray | memoryview | io.IOBase | Path | Image.Image):
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
    """Return a photo as ``(3, H, W)`` uint8 at the size that a model takes.

    Raises:
        UserError: if it cannot be read.
        TypeError: if it is not an image.
    """
    if isinstance(photo, str | Path):
        return preprocess.read(Path(photo))
    try:
        if isinstance(photo, io.IOBase):
            photo = photo.read()
        if isinstance(photo, bytes | bytearray | memoryview):
            return preprocess.resized(pixels_of(bytes(photo)))
        if isinstance(photo, Image.Image):
            return preprocess(as_rgb(photo))
    except ImageError as error:
        raise UserError(f"photo: {error}") from None
    except Exception as error:  # a file that is read only now may be damaged or closed
        raise UserError(f"photo: cannot be decoded: {type(error).__name__}: {one_line(error)}") from None
    if isinstance(photo, np.ndarray | Tensor) and 0 in photo.shape:
        raise UserError(f"photo: an image without pixels, of shape {tuple(photo.shape)}")
    if isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3:
        pixels = np.require(photo, requirements=["C", "W"])  # torch shares memory only if it may write to it
        return preprocess.resized(torch.from_numpy(pixels).permute(2, 0, 1))
    if isinstance(photo, Tensor) and photo.dtype == torch.uint8 and photo.ndim == 3 and photo.shape[0] == 3:
        return preprocess.resized(photo.cpu())
    shape = f" {photo.dtype} of shape {tuple(photo.shape)}" if isinstance(photo, np.ndarray | Tensor) else ""
    raise TypeError(
        f"an image is a path, the bytes of a file, a PIL image, an array (H, W, 3) or a tensor (3, H, W) of uint8, not "
        f"a {type(photo).__name__}{shape}"
    )
