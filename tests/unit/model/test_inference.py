"""A model made for extraction has the same descriptors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vpr.model.inference import for_inference
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

SIZE = (56, 70)
IMAGES = torch.randint(0, 256, (3, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
HAS_BATCH_NORM = {"resnet18": True, "resnet50": True, "efficientnet_b0": True, "vgg16": False, "convnext_tiny": False}


@pytest.mark.parametrize("backbone", HAS_BATCH_NORM)
def test_descriptors_are_equal_and_no_batch_norm_is_left(backbone):
    torch.manual_seed(0)
    model = VPRModel(ModelSpec(backbone, {}, "gem", {}, SIZE))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == HAS_BATCH_NORM[backbone]
    for norm in norms:
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = for_inference(model, torch.device("cpu"))
    assert not [m for m in fast.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.inference_mode():
        assert torch.allclose(fast(IMAGES), model.eval()(IMAGES), atol=1e-5)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_a_model_that_would_change_keeps_its_batch_norm():
    class Twice(nn.Module):
        """Its convolution is looked at by the batch norm and by what comes after."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
            nn.init.uniform_(self.norm.running_mean, 1, 2)

        def forward(self, images):
            seen = self.conv(images)
            return self.norm(seen) + seen

    model = VPRModel(ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, "gem", {}, SIZE)).eval()
    model.backbone = Twice().eval()
    fast = for_inference(model, torch.device("cpu"))
    assert [m for m in fast.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.inference_mode():
        assert torch.allclose(fast(IMAGES), model(IMAGES), atol=1e-6)
