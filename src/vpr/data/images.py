"""Read and decode images: those of datasets, photos sent to the server, and pictures in the report."""

from __future__ import annotations

import functools
import io
import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from vpr.config.errors import UserError
from vpr.data.texts import text_that_begins

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

# Formats of photos. None of their decoders runs another program, as the decoder of EPS would.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".jp2", ".j2k"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
}
HEIF_SUFFIXES = {".heic", ".heif"}  # readable if the package pillow-heif is installed
MAX_FILE_BYTES = 600_000_000
MAX_PIXELS = 64_000_000  # 192 MB when decoded; larger images are unlikely to be photos and may be attacks

_BITS_PER_SAMPLE, _PHOTOMETRIC, _TILE_WIDTH, _TILE_HEIGHT = 258, 262, 322, 323  # TIFF tags
_WHITE_IS_ZERO = 0
_APP1 = 0xE1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"heif", b"hevc", b"hevx", b"mif1", b"msf1")


class ImageError(ValueError):
    """An image that cannot be used; the message says why, without naming it."""


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the formats that can be read here: ``FORMATS``, and HEIF if the package pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return FORMATS
    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def suffixes() -> set[str]:
    """Return the suffixes of files that can be read here, in lower case."""
    return SUFFIXES | HEIF_SUFFIXES if "HEIF" in formats() else SUFFIXES


def decode(content: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image as RGB with 8 bits per channel, rotated upright by its EXIF orientation; see ``as_rgb``.

    Raises:
        ImageError: if the content is not an image, is damaged, has more than ``max_pixels`` pixels, or has pixels of an
            unknown scale.
    """
    try:
        with opened(content) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(f"{width} x {height} pixels; the limit is {max_pixels // 10**6} million")
            tags = getattr(image, "tag_v2", {})
            if tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0) > max_pixels:
                raise ImageError(f"tiles of more than {max_pixels // 10**6} million pixels, which is the limit")
            return as_rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        text = text_that_begins(content)
        if text is not None:
            raise ImageError(f"not an image but a text that begins with {text!r}") from None
        if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
            raise ImageError("a HEIC photo, which needs the package pillow-heif: run `make setup-photos`") from None
        raise ImageError("not an image of a known format; use JPEG, PNG, WebP or another format of photos") from None
    except Image.DecompressionBombError:
        raise ImageError(f"too many pixels; the limit is {max_pixels // 10**6} million") from None
    except Exception as error:  # decoders fail in many ways
        raise ImageError(f"cannot be decoded: {type(error).__name__}: {error}") from None


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image of Pillow as RGB with 8 bits per channel, rotated upright by its EXIF orientation.

    Grey images of 16 bits are scaled to 8 bits. Images whose value for white is unknown, such as those with
    floating-point pixels, are refused.

    Raises:
        ImageError: if the pixels have an unknown scale.
    """
    file_format, tags = getattr(image, "format", None), dict(getattr(image, "tag_v2", {}))
    image.load()  # TIFF files are turned here, and lose their tag
    turn = _TURNS.get(_orientation(image))
    eight_bits = _with_8_bits(image, file_format, tags)
    if eight_bits.mode == "La":  # Pillow converts it only to LA
        eight_bits = eight_bits.convert("LA")
    return (eight_bits if turn is None else eight_bits.transpose(turn)).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, from 1 to 8; 1 if it is unknown. Of JPEGs, XMP is ignored, as browsers do."""
    with warnings.catch_warnings(), suppress(Exception):  # tags are invalid in many ways
        warnings.simplefilter("ignore")
        if "exif" in image.info or getattr(image, "format", None) in ("JPEG", "MPO"):
            tags = Image.Exif()
            tags.load(image.info.get("exif", b""))
        else:
            tags = image.getexif()
        return int(tags.get(ExifTags.Base.Orientation, 1))
    return 1


@contextmanager
def opened(content: bytes) -> Iterator[Image.Image]:
    """Open an image by its header alone. The caller has to check its size before decoding it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            yield image


def _with_8_bits(image: Image.Image, file_format: str | None, tags: Mapping[int, Any]) -> Image.Image:
    """Return the image, or a copy with 8 bits if its grey values have more.

    Args:
        image: The opened image.
        file_format: Pillow's name of the format.
        tags: Tags of a TIFF file.
    """
    if not (image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM"))):
        if image.mode in ("I", "F"):
            kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
            raise ImageError(f"its pixels are {kind}, whose white is unknown; save it with 8 or 16 bits per channel")
        return image
    white = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    grey = np.asarray(image).astype(np.uint32)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = white - grey
    return Image.fromarray(((255 * grey + white // 2) // white).astype(np.uint8))


def read_file(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        ImageError: if the path is a folder, a pipe or a device, which might never stop sending data, or too large.
        OSError: if the file is missing or cannot be read.
    """
    path = as_spelled(path)
    if path.exists() and not path.is_file():
        raise ImageError("not a file but a folder, pipe or device")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{size / 1e6:,.0f} MB; the limit is {MAX_FILE_BYTES // 10**6} MB")
    return path.read_bytes() if size else b""  # files of the kernel say that they are empty, and may never end


def as_spelled(path: Path) -> Path:
    """Return a path as the disk spells it: a letter with an accent is one or two characters in Unicode."""
    if path.exists():
        return path
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        forms = (found / form for form in (part, *(unicodedata.normalize(name, part) for name in ("NFC", "NFD"))))
        spelled = next((form for form in forms if form.exists()), None)
        if spelled is None:
            return path
        found = spelled
    return found


def open_image(path: Path) -> Image.Image:
    """Decode an image file as ``decode`` does.

    Raises:
        UserError: if the file is missing or cannot be used; the message names it.
    """
    with _named(path):
        return decode(read_file(path))


def open_pixels(path: Path) -> Tensor:
    """Return the pixels of an image file as ``(3, H, W)`` uint8. This is faster than ``open_image`` for JPEGs.

    Raises:
        UserError: if the file is missing or cannot be used; the message names it.
    """
    with _named(path):
        return pixels_of(read_file(path))


def pixels_of(content: bytes) -> Tensor:
    """Return the pixels of an image as ``(3, H, W)`` uint8, as ``decode`` does.

    Raises:
        ImageError: if the content cannot be used.
    """
    import torch

    pixels = _jpeg_pixels(content)
    return torch.from_numpy(np.array(decode(content))).permute(2, 0, 1) if pixels is None else pixels


def _jpeg_pixels(content: bytes) -> Tensor | None:
    """Return the pixels of an intact JPEG in colour or grey; ``None`` for everything else, which ``decode`` handles.

    TorchCodec gives the same pixels as Pillow, bit for bit, in half the time. The image is turned here, because the two
    read unusual tags in different ways.
    """
    try:
        orientation = _plain_jpeg_orientation(content)
        if orientation is None:
            return None
        pixels: Tensor = jpeg_decoder()(_without_tags(content), mode="RGB")
        return _turned(pixels, orientation)
    except Exception:  # decode reports what is wrong
        return None


def read_jpeg(path: Path) -> bytes | None:
    """Return an upright JPEG in colour or grey, without tags; ``None`` for all else, which ``open_pixels`` handles."""
    try:
        content = read_file(path)
        return _without_tags(content) if _plain_jpeg_orientation(content) == 1 else None
    except Exception:  # open_pixels reports what is wrong
        return None


def _plain_jpeg_orientation(content: bytes) -> int | None:
    """Return the orientation of a JPEG that TorchCodec decodes exactly as ``decode`` does; ``None`` for all else."""
    if jpeg_decoder() is None or not content.startswith(b"\xff\xd8"):
        return None
    found = _plain_jpeg_header(content)
    return None if found is None else found[2]


def plain_jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height, upright, of a JPEG in colour or grey by its header; ``None`` for everything else."""
    with suppress(Exception):  # decode reports what is wrong
        if (found := _plain_jpeg_header(content)) is not None:
            width, height, orientation = found
            return (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    return None


def _plain_jpeg_header(content: bytes) -> tuple[int, int, int] | None:
    """Return width, height and orientation of a JPEG in colour or grey, by its header; ``None`` for everything else."""
    with opened(content) as header:
        width, height = header.size
        is_plain = header.format == "JPEG" and header.mode in ("RGB", "L") and width * height <= MAX_PIXELS
        return (width, height, _orientation(header)) if is_plain else None


def _without_tags(jpeg: bytes) -> bytes:
    """Return a JPEG without its segments APP1, which hold EXIF and XMP."""
    parts, at = [jpeg[:2]], 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] not in (b"\xda", b""):
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] != _APP1:
            parts.append(jpeg[at:end])
        at = end
    return b"".join([*parts, jpeg[at:]])


def _turned(pixels: Tensor, orientation: int) -> Tensor:
    """Return pixels ``(3, H, W)`` turned upright; see ``_TURNS``."""
    import torch

    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 2)
    flipped = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation)
    return pixels if flipped is None and orientation != 5 else torch.flip(pixels, flipped or []).contiguous()


@functools.cache
def jpeg_decoder() -> Any:
    """Return TorchCodec's JPEG decoder; ``None`` if it cannot be loaded."""
    try:
        from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined]
    except Exception:  # on another platform or with another torch, loading fails in various ways
        return None
    return decode_jpeg


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ImageError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as an image: {error}; if it belongs to the dataset, `dvc repro --force "
            "--single-item verify` lists all unreadable images"
        ) from None
