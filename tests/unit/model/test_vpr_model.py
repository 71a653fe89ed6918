"""Pixels are normalised as torchvision does, whatever their layout in memory."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

SPEC = ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, "gem", {}, (32, 48), mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(32, 48), (1, 1)])
@pytest.mark.parametrize("number", [1, 4])
def test_pixels_are_normalised_as_torchvision_does(memory_format, size, number):
    model = VPRModel(SPEC)
    images = torch.randint(0, 256, (number, 3, *size), dtype=torch.uint8).contiguous(memory_format=memory_format)
    before = images.clone()
    transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(SPEC.mean), list(SPEC.std))])
    assert torch.allclose(model.normalised(images), transform(images), atol=1e-6)
    assert images.equal(before)
    assert {"mean", "std"}.isdisjoint(model.state_dict())


def test_numbers_are_taken_as_normalised_already():
    images = torch.rand(2, 3, 32, 48)
    assert VPRModel(SPEC).normalised(images) is images
