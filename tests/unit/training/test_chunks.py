"""A batch computed in chunks has the gradients of one pass."""

from __future__ import annotations

import copy

import pytest
import torch

from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.training.chunks import in_chunks
from vpr.training.criterion import Criterion

SPEC = ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, "gem", {}, image_size=(32, 48))
IMAGES = torch.randint(0, 256, (12, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4).repeat_interleave(3)


def gradients(model: VPRModel, images_per_forward: int | None) -> dict[str, torch.Tensor]:
    criterion = Criterion("MultiSimilarityLoss", {}, "MultiSimilarityMiner", {}, model.descriptor_dim, 4)
    loss, mined = criterion(in_chunks(model, IMAGES, images_per_forward), LABELS)
    assert not mined.nothing
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("images_per_forward", [1, 5, 12, 100])
def test_the_gradients_are_those_of_one_pass_where_no_layer_looks_at_the_batch(images_per_forward):
    torch.manual_seed(0)
    model = VPRModel(SPEC).eval()
    whole, chunked = gradients(model, None), gradients(model, images_per_forward)
    for name, gradient in whole.items():
        assert torch.allclose(gradient, chunked[name], atol=1e-5, rtol=1e-4), name


def test_dropout_drops_the_same_when_a_chunk_is_computed_again():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 200), torch.nn.Dropout(0.5))
    images = torch.rand(6, 3, 4, 4)
    descriptors = in_chunks(model, images, 2)
    descriptors.sum().backward()
    # Of a kept number the gradient is that of the layer before it times two, of a dropped one zero.
    kept = (descriptors != 0).float() * 2
    assert torch.allclose(model[1].bias.grad, kept.sum(0))


def test_running_averages_see_each_chunk_once():
    torch.manual_seed(0)
    model = VPRModel(SPEC).train()
    one_by_one = copy.deepcopy(model)
    gradients(model, 4)
    with torch.no_grad():
        for chunk in IMAGES.split(4):
            one_by_one(chunk)
    for name, value in one_by_one.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
