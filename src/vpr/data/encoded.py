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
        files: the bytes of all JPEGs, one after the other, as each tensor that a process sends takes a file descriptor.
        lengths: of each JPEG; 0 for an image that is none.
        pixels: ``(3, h, w)`` uint8 of those, by their number.
    """

    paths: list[Path]
    files: Tensor
    lengths: list[int]
    pixels: dict[int, Tensor]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> EncodedImages:
        """Read files.

        Raises:
            UserError: if one is missing or can't be used; the message names it.
        """
        contents = [read_jpeg(path) for path in paths]
        pixels = {k: open_pixels(paths[k]) for k, content in enumerate(contents) if content is None}
        joined = bytearray(b"".join(content for content in contents if content is not None))
        files = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.empty(0, dtype=torch.uint8)
        return cls(list(paths), files, [len(content or b"") for content in contents], pixels)

    def decode(self, image_size: tuple[int, int], device: torch.device) -> Tensor:
        """Pixels ``(number, 3, H, W)`` uint8 on a device.

        Raises:
            UserError: if an image is broken behind its header; the message names it.
        """
        encoded = [k for k, length in enumerate(self.lengths) if length]
        contents = list(torch.split(self.files, [self.lengths[k] for k in encoded]))
        try:
            pixels = jpeg_decoder()(contents, mode="RGB", device=device) if encoded else []
        except RuntimeError:  # of one of them, or of a kind that nvJPEG does not know
            pixels = [open_pixels(self.paths[k]) for k in encoded]
        decoded = {**self.pixels, **dict(zip(encoded, pixels, strict=True))}
        return torch.stack([_resized(decoded[k].to(device), image_size) for k in range(len(self.paths))])


def _resized(pixels: Tensor, image_size: tuple[int, int]) -> Tensor:
    """As ``Preprocess.resized``, in floating-point numbers, as CUDA has no kernel for bytes."""
    if tuple(pixels.shape[1:]) == image_size:
        return pixels
    scaled: Tensor = interpolate(pixels[None].float(), image_size, mode="bilinear", antialias=True)
    return scaled[0].round_().clamp_(0, 255).to(torch.uint8)
