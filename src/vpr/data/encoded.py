"""Images that a GPU decodes: the loader processes only read files.

This helps on machines with few CPU cores per GPU. On a GPU, TorchCodec's batched decoder is nvJPEG, whose pixels can
differ from those of a CPU by a few grey levels.
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
    """Undecoded JPEG files, and the pixels of images in other formats.

    Attributes:
        paths: Paths of the images.
        files: Content of all JPEGs in one tensor, because each tensor that a process sends takes a file descriptor.
        lengths: Bytes of each JPEG; 0 if the file is not a JPEG.
        pixels: Pixels ``(3, h, w)`` uint8 of the images that are not JPEGs, by their number.
    """

    paths: list[Path]
    files: Tensor
    lengths: list[int]
    pixels: dict[int, Tensor]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> EncodedImages:
        """Read files.

        Raises:
            UserError: if a file is missing or cannot be used; the message names it.
        """
        contents = [read_jpeg(path) for path in paths]
        pixels = {k: open_pixels(paths[k]) for k, content in enumerate(contents) if content is None}
        joined = bytearray(b"".join(content for content in contents if content is not None))
        files = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.empty(0, dtype=torch.uint8)
        return cls(list(paths), files, [len(content or b"") for content in contents], pixels)

    def decode(self, image_size: tuple[int, int], device: torch.device) -> Tensor:
        """Decode and resize all images on a device.

        Returns:
            Pixels ``(number, 3, H, W)``, uint8.

        Raises:
            UserError: if an image is damaged; the message names it.
        """
        encoded = [k for k, length in enumerate(self.lengths) if length]
        contents = list(torch.split(self.files, [self.lengths[k] for k in encoded]))
        try:
            pixels = jpeg_decoder()(contents, mode="RGB", device=device) if encoded else []
        except RuntimeError:  # one image is damaged, or of a kind that nvJPEG does not support
            pixels = [open_pixels(self.paths[k]) for k in encoded]
        decoded = {**self.pixels, **dict(zip(encoded, pixels, strict=True))}
        return torch.stack([_resized(decoded[k].to(device), image_size) for k in range(len(self.paths))])


def _resized(pixels: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Resize as ``Preprocess.resized`` does, in floating point, because CUDA has no such kernel for bytes."""
    if tuple(pixels.shape[1:]) == image_size:
        return pixels
    scaled: Tensor = interpolate(pixels[None].float(), image_size, mode="bilinear", antialias=True)
    return scaled[0].round_().clamp_(0, 255).to(torch.uint8)
