"""RandAugment for a batch of images at once; on a CPU, large images go through Pillow one by one, which is faster.

The operations are those of Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search
Space", NeurIPS 2020, https://arxiv.org/abs/1909.13719, at torchvision's default magnitude, 9 of 30, with bilinear
interpolation. Each one gives the same pixels as torchvision does for a PIL image, within 1 of 255. `make bench`
compares the speed of the two.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.nn.functional import grid_sample

SHARE = 9 / 30  # magnitude, as a share of the largest one
SHEAR, SHIFT, DEGREES, ENHANCE = SHARE * 0.3, SHARE * 150 / 331, SHARE * 30.0, SHARE * 0.9
POSTERIZE_BITS = 8 - round(SHARE * 4)
SOLARIZE_FROM = 255 * (1 - SHARE)
# On a CPU, Pillow is faster for images with more pixels than this. For 64 images of 60x80 and one operation, Pillow
# takes 9 ms and a batch 5 ms; for 224x224 and two operations, 92 ms and 119 ms (2 cores).
_SMALL_PIXELS = 20_000
_GREY = (19595, 38470, 7471)  # weights of red, green and blue, in units of 1/65,536


def _shear_x(sign: float, height: int, width: int) -> list[float]:
    return [1.0, sign * SHEAR, 0.0, 0.0, 1.0, 0.0]


def _shear_y(sign: float, height: int, width: int) -> list[float]:
    return [1.0, 0.0, 0.0, sign * SHEAR, 1.0, 0.0]


def _translate_x(sign: float, height: int, width: int) -> list[float]:
    return [1.0, 0.0, -sign * int(SHIFT * width), 0.0, 1.0, 0.0]


def _translate_y(sign: float, height: int, width: int) -> list[float]:
    return [1.0, 0.0, 0.0, 0.0, 1.0, -sign * int(SHIFT * height)]


def _rotate(sign: float, height: int, width: int) -> list[float]:
    """Rotate anticlockwise around the centre."""
    cos, sin = math.cos(math.radians(DEGREES)), -sign * math.sin(math.radians(DEGREES))
    x, y = width / 2, height / 2
    return [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]


def transform(images: Tensor, which: Tensor) -> Tensor:
    """Shear, shift or rotate images; pixels from outside the image become black.

    Args:
        images: Images ``(B, 3, H, W)``, uint8.
        which: Number of each image's operation and sign, ``(B,)`` int64, as ``_sources`` counts them.
    """
    grids, inside = _sources(images.shape[-2], images.shape[-1], images.device)
    grid = grids.index_select(0, which)
    drawn = grid_sample(images.float(), grid, "bilinear", padding_mode="border", align_corners=False)
    return drawn.add_(1e-3).mul_(inside.index_select(0, which)).to(torch.uint8)  # PIL truncates fractions


@functools.lru_cache(maxsize=4)
def _sources(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the source position of each pixel for the operations of ``GEOMETRY``, each with either sign.

    Returns:
        Positions ``(10, H, W, 2)`` float32 as ``grid_sample`` takes them, and ``(10, 1, H, W)`` float32 that is 1
        where the source lies inside the image.
    """
    matrices = [matrix(sign, height, width) for matrix in GEOMETRY.values() for sign in (1.0, -1.0)]
    y = torch.arange(height, dtype=torch.float64)[:, None] + 0.5
    x = torch.arange(width, dtype=torch.float64) + 0.5
    # Pixel (x, y) is taken from (ax + by + c, dx + ey + f).
    a, b, c, d, e, f = torch.tensor(matrices, dtype=torch.float64)[:, :, None, None].unbind(1)
    from_x, from_y = a * x + b * y + c, d * x + e * y + f
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    grids = torch.stack([2 * from_x / width - 1, 2 * from_y / height - 1], dim=-1)
    return grids.float().to(device), inside[:, None].float().to(device)


def _blend(images: Tensor, towards: Tensor, signs: Tensor) -> Tensor:
    """Move images away from ``towards`` where the sign is positive, and nearer to it where it is negative."""
    factor = (1.0 + signs * ENHANCE)[:, None, None, None]
    return (towards + factor * (images.float() - towards)).clamp_(0, 255).to(torch.uint8)


def brightness(images: Tensor, signs: Tensor) -> Tensor:
    return _blend(images, torch.zeros((), device=images.device), signs)


def colour(images: Tensor, signs: Tensor) -> Tensor:
    return _blend(images, _grey(images).float(), signs)


def contrast(images: Tensor, signs: Tensor) -> Tensor:
    mean = _grey(images).double().mean(dim=(1, 2, 3), keepdim=True)
    return _blend(images, torch.floor(mean + 0.5).float(), signs)


def sharpness(images: Tensor, signs: Tensor) -> Tensor:
    whole = images.float()
    padded_rows = whole[:, :, :-2] + whole[:, :, 1:-1] + whole[:, :, 2:]
    around = padded_rows[..., :-2] + padded_rows[..., 1:-1] + padded_rows[..., 2:]
    smooth = whole.clone()  # the outermost pixels stay
    inner = smooth[:, :, 1:-1, 1:-1]
    inner.copy_(torch.floor((around + 4 * inner) / 13 + 0.5))
    return _blend(images, smooth, signs)


def posterize(images: Tensor, signs: Tensor) -> Tensor:
    return images & (256 - 2 ** (8 - POSTERIZE_BITS))


def solarize(images: Tensor, signs: Tensor) -> Tensor:
    return torch.where(images < SOLARIZE_FROM, images, 255 - images)


def auto_contrast(images: Tensor, signs: Tensor) -> Tensor:
    low, high = (f(images, dim=(2, 3), keepdim=True).double() for f in (torch.amin, torch.amax))
    scale = 255.0 / (high - low)
    stretched = (images * scale - low * scale).clamp_(0, 255)
    return torch.where(high > low, stretched, images).to(torch.uint8)


def equalize(images: Tensor, signs: Tensor) -> Tensor:
    number = len(images) * 3
    pixels = images.reshape(number, -1).long()
    first = torch.arange(number, device=images.device)[:, None] * 256
    where = (pixels + first).flatten()
    counts = torch.zeros(number * 256, dtype=torch.int64, device=images.device)
    counts = counts.scatter_add_(0, where, torch.ones_like(where)).view(number, 256)
    values = torch.arange(256, device=images.device)
    last = (values * (counts > 0)).amax(dim=1, keepdim=True)
    step = (pixels.shape[1] - counts.gather(1, last)) // 255
    below = counts.cumsum(1) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, values).to(torch.uint8)
    return table.flatten()[where].view(images.shape)


def _grey(images: Tensor) -> Tensor:
    """Return grey values ``(B, 1, H, W)``, int32 from 0 to 255."""
    weights = torch.tensor(_GREY, dtype=torch.int32, device=images.device)[:, None, None]
    return ((images * weights).sum(1, keepdim=True, dtype=torch.int32) + 0x8000) >> 16


GEOMETRY: dict[str, Callable[[float, int, int], list[float]]] = {
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
}
COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": brightness,
    "Color": colour,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
}
OPERATIONS = ("Identity", *GEOMETRY, *COLOURS)
NUM_DRAWS = 2 * len(OPERATIONS)  # each operation has two signs


def rand_augment(images: Tensor, draws: NDArray[np.integer[Any]]) -> Tensor:
    """Apply to each image the operations drawn for it, one after the other, by the faster method for its device.

    Args:
        images: Images ``(B, 3, H, W)``, uint8.
        draws: Drawn operations ``(B, K)`` from 0 to ``NUM_DRAWS - 1``: twice the number of the operation, plus 1 for
            the negative sign.

    Returns:
        New images; ``images`` itself if no operation was drawn.
    """
    if images.device.type != "cpu":
        return as_a_batch(images, draws)
    if images.shape[-2] * images.shape[-1] > _SMALL_PIXELS:
        return one_by_one(images, draws)
    with _one_thread():
        return as_a_batch(images, draws)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: operations this small take half the time when torch does not wake its other threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_WITH_PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda image, _: image,
    "Brightness": lambda image, sign: ImageEnhance.Brightness(image).enhance(1.0 + sign * ENHANCE),
    "Color": lambda image, sign: ImageEnhance.Color(image).enhance(1.0 + sign * ENHANCE),
    "Contrast": lambda image, sign: ImageEnhance.Contrast(image).enhance(1.0 + sign * ENHANCE),
    "Sharpness": lambda image, sign: ImageEnhance.Sharpness(image).enhance(1.0 + sign * ENHANCE),
    "Posterize": lambda image, _: ImageOps.posterize(image, POSTERIZE_BITS),
    "Solarize": lambda image, _: ImageOps.solarize(image, int(SOLARIZE_FROM) + 1),
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
}


def one_by_one(images: Tensor, draws: NDArray[np.integer[Any]]) -> Tensor:
    """Do what ``rand_augment`` does with Pillow."""
    size = images.shape[-1], images.shape[-2]
    result = images.clone()
    for k in np.flatnonzero((draws >= 2).any(axis=1)):  # Identity leaves the other images unchanged
        image = Image.fromarray(images[k].permute(1, 2, 0).numpy())
        for number, negative in zip(draws[k] // 2, draws[k] % 2, strict=True):
            name, sign = OPERATIONS[number], 1.0 - 2.0 * negative
            if name in GEOMETRY:
                matrix = GEOMETRY[name](sign, size[1], size[0])
                image = image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
            else:
                image = _WITH_PILLOW[name](image, sign)
        result[k] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return result


def as_a_batch(images: Tensor, draws: NDArray[np.integer[Any]]) -> Tensor:
    """Do what ``rand_augment`` does with tensors, without synchronising the device or looping over images."""
    for drawn in draws.T:
        # Sort images by operation, so that each operation works on a slice, and restore the order at the end.
        order = np.argsort(drawn, kind="stable")
        images = images.index_select(0, _to(images.device, order))
        sorted_draws = drawn[order]
        bounds = np.searchsorted(sorted_draws, 2 * np.arange(len(OPERATIONS) + 1))
        moved = slice(bounds[_FIRST_MOVE], bounds[_FIRST_COLOUR])
        if moved.start < moved.stop:
            images[moved] = transform(images[moved], _to(images.device, sorted_draws[moved] - 2 * _FIRST_MOVE))
        signs = _to(images.device, (1.0 - 2.0 * (sorted_draws % 2)).astype(np.float32))
        for number, operation in enumerate(COLOURS.values(), _FIRST_COLOUR):
            chosen = slice(bounds[number], bounds[number + 1])
            if chosen.start < chosen.stop:
                images[chosen] = operation(images[chosen], signs[chosen])
        images = images.index_select(0, _to(images.device, np.argsort(order, kind="stable")))
    return images


_FIRST_MOVE, _FIRST_COLOUR = 1, 1 + len(GEOMETRY)  # positions in OPERATIONS


def _to(device: torch.device, values: NDArray[Any]) -> Tensor:
    """Copy values to the device without waiting for it."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
