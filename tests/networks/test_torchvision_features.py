"""The features of whole torchvision networks, by our backbones and by torchvision's own modules."""

from __future__ import annotations

import pytest
import torch
import torchvision

from vpr.model.backbones import BACKBONES, build_backbone


def uncropped(name: str, network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The feature map by torchvision's own modules."""
    if name.startswith("res"):
        for child in list(network.children())[:-2]:
            images = child(images)
        return images
    if name.startswith("swin"):
        return network.permute(network.norm(network.features(images)))
    return network.features[:30](images) if name == "vgg16" else network.features(images)


TORCHVISION = [name for name, entry in BACKBONES.items() if entry.facts.get("library") == "torchvision"]
assert len(TORCHVISION) == 16
LARGE = ("_s", "_b", "small", "base", "101")  # the same code as their siblings; test_backbones.py builds them all


# The others are the same code with more or wider blocks, and test_backbones.py builds them all.
@pytest.mark.parametrize(
    "name", [name for name in TORCHVISION if not name.endswith(("_s", "_b", "small", "base", "101"))]
)
def test_a_torchvision_backbone_gives_torchvision_s_features_from_its_weights(name, tmp_path, quick_weights):
    torch.manual_seed(0)
    network = torchvision.models.get_model({"resnext50": "resnext50_32x4d"}.get(name, name), weights=None).eval()
    # Without the 480 MB of VGG's classifier, which no backbone asks for.
    state = {key: value for key, value in network.state_dict().items() if value.numel() < 10_000_000}
    torch.save(state, tmp_path / "w.pth")
    backbone = build_backbone(name, str(tmp_path / "w.pth"), layers_to_crop=[]).eval()
    images = torch.rand(2, 3, 96, 64)
    with torch.inference_mode():
        assert torch.allclose(backbone(images), uncropped(name, network, images), rtol=1e-5, atol=1e-6)
