"""RandAugment on a batch equals torchvision's on one PIL image after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from vpr.data.augmentation import NUM_DRAWS, OPERATIONS, as_a_batch, one_by_one

SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"}


def images_like_photos(seed: int, number: int, height: int, width: int) -> np.ndarray:
    """Smooth colours, noise, one colour alone, few colours, and edges: ``(number, H, W, 3)`` uint8."""
    rng = np.random.default_rng(seed)
    images = []
    for k in range(number):
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
        noise = rng.integers(-20, 21, (height, width, 3))
        kind = k % 5
        images.append(
            [
                smooth + noise,
                smooth,
                np.full_like(smooth, rng.integers(0, 256, 3)),
                smooth // 64 * 64,
                smooth // 3 + 60,
            ][kind]
        )
    return np.clip(np.stack(images), 0, 255).astype(np.uint8)


def by_torchvision(image: np.ndarray, operation: str, sign: int) -> np.ndarray:
    original = v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR)
    magnitudes, signed = original._AUGMENTATION_SPACE[operation]
    all_magnitudes = magnitudes(31, *image.shape[:2])
    magnitude = 0.0 if all_magnitudes is None else float(all_magnitudes[9]) * (sign if signed else 1)
    done = original._apply_image_or_video_transform(
        Image.fromarray(image), operation, magnitude, interpolation=v2.InterpolationMode.BILINEAR, fill=original._fill
    )
    return np.asarray(done)


def augment(how, images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    before = tensor.clone()
    result = how(tensor, draws).permute(0, 2, 3, 1).numpy()
    assert tensor.equal(before)
    return result


def test_the_operations_are_torchvision_s():
    space = v2.RandAugment()._AUGMENTATION_SPACE
    assert list(space) == list(OPERATIONS)
    assert {name for name, (_, signed) in space.items() if signed} == SIGNED
    assert NUM_DRAWS == 28


HOW = [one_by_one, as_a_batch]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [(60, 80), (33, 47), (3, 3)])
def test_an_operation_is_torchvision_s_within_one_grey_level(how, operation, sign, size):
    images = images_like_photos(OPERATIONS.index(operation), 10, *size)
    draws = np.full((10, 1), 2 * OPERATIONS.index(operation) + (sign < 0))
    expected = np.stack([by_torchvision(image, operation, sign) for image in images])
    assert np.abs(augment(how, images, draws).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("how", HOW)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), number=st.integers(1, 6), ops=st.integers(0, 3))
def test_an_image_s_result_depends_on_its_own_draw_alone(how, seed, number, ops):
    images = images_like_photos(seed, number, 12, 17)
    draws = np.random.default_rng(seed).integers(0, NUM_DRAWS, (number, ops))
    together = augment(how, images, draws)
    alone = np.concatenate([augment(how, images[k : k + 1], draws[k : k + 1]) for k in range(number)])
    assert np.array_equal(together, alone)
