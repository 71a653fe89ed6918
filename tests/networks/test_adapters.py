"""Adapters: nothing changes at first, little is trained, and what is trained is counted."""

from __future__ import annotations

import pytest
import torch

from vpr.config.errors import UserError
from vpr.model.backbones import build_backbone

LAYERS = {"layers_to_crop": [2, 3, 4], "layers_to_freeze": None}
BLOCKS, WIDTH = 3, 384  # a small transformer with only its first quarter


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov3_vits16"])
@pytest.mark.parametrize(
    ("kind", "weights_of_a_block"),
    [("lora", 4 * (WIDTH + 3 * WIDTH)), ("parallel", 4 * WIDTH + 4 + 4 * WIDTH + WIDTH)],
)
def test_an_adapted_network_begins_as_it_was_and_trains_its_adapters_alone(
    name, kind, weights_of_a_block, quick_weights
):
    px = 16 * 4 if "16" in name else 14 * 4
    images = torch.rand(2, 3, px, px)
    torch.manual_seed(0)
    plain = build_backbone(name, None, **LAYERS).eval()
    torch.manual_seed(0)
    adapted = build_backbone(name, None, **LAYERS, adapter=kind, adapter_dim=4).eval()
    adapted.load_state_dict(
        {k: plain.state_dict().get(k.replace(".base.", "."), v) for k, v in adapted.state_dict().items()}
    )
    with torch.inference_mode():
        for one, other in zip(adapted.forward_with_token(images), plain.forward_with_token(images), strict=True):
            assert torch.equal(one, other)
    learning = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert all(".down." in name or ".up." in name for name in learning)
    assert sum(p.numel() for p in learning.values()) == BLOCKS * weights_of_a_block
    adapted.train()
    adapted(images).square().sum().backward()
    assert all(learning[name].grad is not None for name in learning)
    assert any(learning[name].grad.abs().sum() > 0 for name in learning if ".up." in name)


def test_registers_are_no_part_of_the_map_and_the_class_token_is_handed_on(quick_weights):
    backbone = build_backbone("dinov3_vits16", None, layers_to_crop=[2, 3, 4], layers_to_freeze=None).eval()
    with torch.inference_mode():
        features, token = backbone.forward_with_token(torch.rand(2, 3, 48, 64))
    assert features.shape == (2, WIDTH, 3, 4)
    assert token.shape == (2, WIDTH)
    assert not torch.allclose(token, features.mean(dim=(-2, -1)))


@pytest.mark.parametrize("name", ["dinov3_vits16", "timm"])
def test_the_last_blocks_are_trained_and_no_others(name, quick_weights):
    options = {"model": "vit_tiny_patch16_224"} if name == "timm" else {}
    backbone = build_backbone(name, None, layers_to_crop=[3, 4], layers_to_freeze=None, trained_blocks=2, **options)
    learning = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert {name.split(".")[2] for name in learning if "blocks" in name} == {"4", "5"}
    assert not {name for name in learning if "patch_embed" in name or "token" in name}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm", {"adapter": "lora"}, "the network has no blocks of attention and MLP"),
        ("timm", {"trained_blocks": 2}, "trained_blocks is 2; the model has 0 blocks"),
        ("dinov3_vits16", {"adapter": "lorra"}, "adapter is 'lorra'; expected one of none, lora, parallel"),
        ("dinov3_vits16", {"adapter": "lora", "adapter_dim": 0}, "adapter_dim is 0"),
        ("dinov2_vits14", {"adapter": "lora", "trained_blocks": 1}, "an adapter freezes all other weights"),
    ],
)
def test_what_does_not_go_together_is_refused(name, options, message, quick_weights):
    with pytest.raises(UserError, match=message):
        build_backbone(name, None, layers_to_crop=[2, 3, 4], layers_to_freeze=None, **options)
