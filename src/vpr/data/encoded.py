"""Images that a GPU decodes: the loader's processes read files, and the device does the rest.

For machines with few cores for each GPU. TorchCodec's batched decoder is nvJPEG, whose pixels may differ by a few grey
levels from those of a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vpr.data.images import jpeg_decoder, open_pixels, read_jpeg


@dataclass(frozen=True)
class EncodedImages:
    """JPEGs as they are in their files, and the pixels of all else.

    Attributes:
        paths: of the images.
        images: for each its bytes, ``(number,)`` uint8, or its pixels, ``(3, h, w)`` uint8.
    """

    paths: list[Path]
    images: list[Tensor]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> EncodedImages:
        """Read files.

        Raises:
            UserError: if one is missing or can't be used; the message names it.
        """
        return cls(list(paths), [_read(path) for path in paths])

    def decode(self, image_size: tuple[int, int], device: torch.device) -> Tensor:
        """Pixels ``(number, 3, H, W)`` uint8 on a device.

        Raises:
            UserError: if an image is broken behind its header; the message names it.
        """
        encoded = [k for k, image in enumerate(self.images) if image.dim() == 1]
        decoded = list(self.images)
        try:
            pixels = jpeg_decoder()([self.images[k] for k in encoded], mode="RGB", device=device) if encoded else []
        except RuntimeError:  # of one of them, or of a kind that nvJPEG does not know
            pixels = [open_pixels(self.paths[k]) for k in encoded]
        for k, image in zip(encoded, pixels, strict=True):
            decoded[k] = image
        return torch.stack([_resized(image.to(device), image_size) for image in decoded])


def _read(path: Path) -> Tensor:
    content = read_jpeg(path)
    return open_pixels(path) if content is None else torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _resized(pixels: Tensor, image_size: tuple[int, int]) -> Tensor:
    """As ``Preprocess.resized``, in floating-point numbers, as CUDA has no kernel for bytes."""
    if tuple(pixels.shape[1:]) == image_size:
        return pixels
    scaled: Tensor = interpolate(pixels[None].float(), image_size, mode="bilinear", antialias=True)
    return scaled[0].round_().clamp_(0, 255).to(torch.uint8)
