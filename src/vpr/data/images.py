"""Image file -> image or pixels: one way of reading for datasets, photos that are sent, and the report."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vpr.config.errors import UserError
from vpr.data.texts import text_that_begins

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

# Formats that hold photos; none of their decoders runs another program, as that of EPS does.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".jp2", ".j2k"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
}
MAX_PIXELS = 64_000_000  # decoded, 192 MB; more is not a photo, or is an attack

_BITS_PER_SAMPLE, _PHOTOMETRIC, _TILE_WIDTH, _TILE_HEIGHT = 258, 262, 322, 323  # TIFF tags
_WHITE_IS_ZERO = 0


class ImageError(ValueError):
    """An image that can't be used; the message says why, without naming it."""


def decode(content: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image as RGB with 8 bits a channel, turned upright by its EXIF orientation.

    Grey of 16 bits is scaled to 8. Where nothing says which value is white, as in floating-point pixels, the image is
    refused.

    Raises:
        ImageError: if it is not an image, is broken, has more than ``max_pixels``, or pixels of an unknown scale.
    """
    try:
        with _opened(content) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(f"{width} x {height} pixels; the limit is {max_pixels // 10**6} million")
            tags = getattr(image, "tag_v2", {})
            if tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0) > max_pixels:
                raise ImageError(f"tiles of more than {max_pixels // 10**6} million pixels, which is the limit")
            upright = ImageOps.exif_transpose(image)
            return _with_8_bits(upright, image.format, tags).convert("RGB")
    except ImageError:
        raise
    except UnidentifiedImageError:
        text = text_that_begins(content)
        if text is not None:
            raise ImageError(f"not an image of a known format but a text, which begins {text!r}") from None
        raise ImageError("not an image of a known format; use JPEG, PNG, WebP or another format of photos") from None
    except Image.DecompressionBombError:
        raise ImageError(f"too many pixels; the limit is {max_pixels // 10**6} million") from None
    except Exception as error:  # decoders fail in many ways
        raise ImageError(f"can't be decoded: {type(error).__name__}: {error}") from None


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """An image of which no more than the header is read yet. Its size is for the caller to judge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            yield image


def _with_8_bits(image: Image.Image, file_format: str | None, tags: Mapping[int, Any]) -> Image.Image:
    """The image itself, or, if its grey has more than 8 bits, a copy with 8.

    Args:
        tags: of a TIFF file.
    """
    if not (image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM"))):
        if image.mode in ("I", "F"):
            kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
            raise ImageError(f"its pixels are {kind}, of which white is not known; save it with 8 or 16 bits a channel")
        return image
    white = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    grey = np.asarray(image).astype(np.uint32)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = white - grey
    return Image.fromarray(((255 * grey + white // 2) // white).astype(np.uint8))


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        ImageError: if it is a folder, or a pipe or device, which would never end.
        OSError: if it is not there, or can't be read.
    """
    if path.exists() and not path.is_file():
        raise ImageError("not a file but a folder, pipe or device")
    return path.read_bytes()


def open_image(path: Path) -> Image.Image:
    """Decode an image file as ``decode`` does.

    Raises:
        UserError: if the file is missing or can't be used; the message names it.
    """
    with _named(path):
        return decode(read_file(path))


def open_pixels(path: Path) -> Tensor:
    """The pixels ``(3, H, W)`` of ``open_image``, uint8: the same ones, and of a JPEG sooner.

    Raises:
        UserError: as ``open_image``.
    """
    import torch

    with _named(path):
        content = read_file(path)
        pixels = _jpeg_pixels(content)
        return torch.from_numpy(np.array(decode(content))).permute(2, 0, 1) if pixels is None else pixels


def _jpeg_pixels(content: bytes) -> Tensor | None:
    """The pixels of a sound JPEG in colour or grey; ``None`` for all else, of which ``decode`` knows more.

    TorchCodec decodes bit for bit as Pillow does, in half the time.
    """
    try:
        if not _is_plain_jpeg(content):
            return None
        pixels: Tensor = jpeg_decoder()(content, mode="RGB")
        return pixels
    except Exception:  # of any kind; decode says what is wrong
        return None


def read_jpeg(path: Path) -> bytes | None:
    """A JPEG in colour or grey, as its header says; ``None`` for all else, which is for ``open_pixels``."""
    try:
        content = read_file(path)
        return content if _is_plain_jpeg(content) else None
    except Exception:  # open_pixels says what is wrong
        return None


def _is_plain_jpeg(content: bytes) -> bool:
    """Whether TorchCodec is there and its pixels are those of ``decode``, as far as the header says."""
    if jpeg_decoder() is None or not content.startswith(b"\xff\xd8"):
        return False
    with _opened(content) as header:
        width, height = header.size
        return header.format == "JPEG" and header.mode in ("RGB", "L") and width * height <= MAX_PIXELS


@functools.cache
def jpeg_decoder() -> Any:
    """TorchCodec's; ``None`` where it can't be loaded."""
    try:
        from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined]
    except Exception:  # of another platform or torch: it fails in its own ways
        return None
    return decode_jpeg


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (ImageError, OSError) as error:
        raise UserError(
            f"{path}: can't be read as an image: {error}; `dvc repro --force --single-item verify` lists all such"
        ) from None
