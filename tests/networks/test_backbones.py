"""Every backbone: one contract for all of them, and its features against those of its own library."""

from __future__ import annotations

import pytest
import torch
import torchvision

from vpr.config.errors import UserError
from vpr.model.backbones import BACKBONES, build_backbone
from vpr.model.checkpoint import save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

STRIDES = {
    "vgg16": (16, 16, 8),
    **dict.fromkeys(("dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14"), (14, 14, 14)),
    **dict.fromkeys(("dinov3_vits16", "dinov3_vitb16", "dinov3_vitl16"), (16, 16, 16)),
}


@pytest.mark.filterwarnings("ignore")  # torch warns about modules on the meta device
@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_says_its_channels_and_its_stride_follows_from_the_stages_cropped(name, quick_weights):
    for crop, stride in zip(((), (4,), (3, 4)), STRIDES.get(name, (32, 16, 8)), strict=True):
        with torch.device("meta"), torch.inference_mode():  # shapes alone: no weights, no arithmetic
            backbone = build_backbone(name, None, layers_to_crop=list(crop)).eval()
            height, width = 96 if "dinov3" in name else 84, 112 if "dino" in name else 64
            features = backbone(torch.rand(2, 3, height, width))
        assert features.shape[:2] == (2, backbone.out_channels)
        for size, pixels in zip(features.shape[2:], (height, width), strict=True):
            assert pixels // stride <= size <= -(-pixels // stride)


LARGE = (
    "_s",
    "_b",
    "small",
    "base",
    "101",
    "152",
    "b14",
    "l14",
    "b16",
    "l16",
    "lite1",
    "lite2",
)  # the same code as their smaller siblings


@pytest.mark.parametrize("name", [n for n in BACKBONES if not n.endswith(LARGE)])
def test_freezing_stages_leaves_them_as_they_are_and_gradients_reach_the_rest(name, quick_weights):
    torch.manual_seed(0)
    backbone = build_backbone(name, None, layers_to_crop=[4], layers_to_freeze=1).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    px = 112 if "dino" in name else 64
    (backbone(torch.rand(2, 3, px, px)) * torch.rand(px, px)[:1, :1]).square().sum().backward()
    parameters = dict(backbone.named_parameters())
    frozen = {k for k, p in parameters.items() if not p.requires_grad}
    learning = {k for k, p in parameters.items() if p.requires_grad}
    assert frozen
    assert learning
    assert all(parameters[k].grad is None for k in frozen)
    reached = {k for k in learning if parameters[k].grad is not None and parameters[k].grad.abs().sum() > 0}
    unused = learning - reached
    assert not [k for k in unused if not k.endswith("norm.weight") and not k.endswith("norm.bias")], unused
    changed = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    modules = {k.rpartition(".")[0] for k in frozen}
    assert not [k for k in changed if k.rpartition(".")[0] in modules]
    whole = build_backbone(name, None, layers_to_crop=[4], layers_to_freeze=0)
    stem = {k for k, p in whole.named_parameters() if not p.requires_grad}
    assert stem < frozen
    assert all(p.requires_grad for p in build_backbone(name, None, layers_to_crop=[4]).parameters())


def test_timm_s_resnet_gives_torchvision_s_features(tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None).eval()
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    torch.save(state, tmp_path / "w.pth")
    images = torch.rand(2, 3, 96, 64)
    for crop in ([], [4], [3, 4]):
        ours = build_backbone("resnet18", None, layers_to_crop=crop, layers_to_freeze=1).eval()
        theirs = build_backbone(
            "timm", str(tmp_path / "w.pth"), model="resnet18", layers_to_crop=crop, layers_to_freeze=1
        ).eval()
        ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
        with torch.inference_mode():
            assert torch.allclose(ours(images), theirs(images), rtol=1e-5, atol=1e-6)
        frozen = [[p.requires_grad for p in b.parameters()] for b in (ours, theirs)]
        assert frozen[0] == frozen[1]


def test_timm_s_transformers_have_a_quarter_of_the_blocks_for_a_stage():
    backbone = build_backbone("timm", None, model="vit_tiny_patch16_224", layers_to_crop=[4], layers_to_freeze=1)
    assert backbone(torch.rand(1, 3, 224, 224)).shape == (1, 192, 14, 14)
    assert len(backbone.network.blocks) == 9
    assert {k.split(".")[2] for k, p in backbone.named_parameters() if "blocks" in k and not p.requires_grad} == {
        "0", "1", "2",
    }  # fmt: skip


def test_dinov2_gives_timm_s_tokens_at_the_size_it_was_trained_at_and_resizes_positions_as_its_authors_do(
    tmp_path, quick_weights
):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch14_dinov2.lvd142m", pretrained=False, num_classes=0).eval()
    torch.nn.init.normal_(network.pos_embed)
    torch.save({**network.state_dict(), "mask_token": torch.zeros(1, 384)}, tmp_path / "w.pth")
    backbone = build_backbone("dinov2_vits14", str(tmp_path / "w.pth"), layers_to_crop=[]).eval()
    images = torch.rand(1, 3, 518, 518)
    with torch.inference_mode():
        tokens = network.forward_features(images)
        features, token = backbone.forward_with_token(images)
    assert torch.allclose(token, tokens[:, 0], rtol=1e-4, atol=1e-5)
    assert torch.allclose(features.flatten(2).transpose(1, 2), tokens[:, 1:], rtol=1e-4, atol=1e-5)
    assert features.shape == (1, 384, 37, 37)
    grid = network.pos_embed[:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    for rows, columns in ((23, 23), (16, 23), (50, 37)):
        scale = ((rows + 0.1) / 37, (columns + 0.1) / 37)
        expected = torch.nn.functional.interpolate(grid, scale_factor=scale, mode="bicubic")
        found = backbone.positions(rows, columns)
        assert torch.equal(found[:, 1:].reshape(1, rows, columns, 384).permute(0, 3, 1, 2), expected)
        assert torch.equal(found[:, :1], network.pos_embed[:, :1])


def test_dinov2_trains_its_last_blocks_and_refuses_sizes_that_do_not_fit():
    backbone = build_backbone("dinov2_vits14", None, layers_to_crop=[], trained_blocks=4)
    learning = {k.split(".")[1] for k, p in backbone.named_parameters() if p.requires_grad and "blocks" in k}
    assert learning == {"8", "9", "10", "11"}
    with pytest.raises(ValueError, match=r"multiples of 14, got 320 x 224; set image_size to \[322, 224\]"):
        backbone(torch.zeros(1, 3, 320, 224))
    with pytest.raises(UserError, match="trained_blocks is 13; expected 0 to 12"):
        build_backbone("dinov2_vits14", None, trained_blocks=13)
    with pytest.raises(UserError, match="both given"):
        build_backbone("dinov2_vits14", None, trained_blocks=1, layers_to_freeze=1)


def test_an_unknown_timm_model_is_refused_with_near_names():
    with pytest.raises(UserError, match=r"timm has no model 'convnextv2_nanno'; it has .*convnext"):
        build_backbone("timm", None, model="convnextv2_nanno")


def test_salad_takes_dinov2_s_class_token():
    torch.manual_seed(0)
    options = {"num_clusters": 4, "cluster_dim": 8, "token_dim": 6}
    model = VPRModel(ModelSpec("dinov2_vits14", {"layers_to_crop": [2, 3, 4]}, "salad", options, (42, 42))).eval()
    images = torch.rand(2, 3, 42, 42)
    with torch.inference_mode():
        features, token = model.backbone.forward_with_token(images)
        assert torch.equal(model(images), model.aggregator(features, token))


def test_resnet18_cropped_at_4_has_256_channels_at_20x20_for_320_px():
    backbone = build_backbone("resnet18", None).eval()
    with torch.inference_mode():
        assert backbone(torch.zeros(1, 3, 320, 320)).shape == (1, 256, 20, 20)


def test_frozen_layers_neither_learn_nor_count():
    backbone = build_backbone("resnet18", None, layers_to_freeze=1).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    backbone(torch.rand(4, 3, 32, 32)).sum().backward()
    changed = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert not [k for k in changed if k.startswith(("stem.", "stages.0."))]
    learning = {k for k, p in backbone.named_parameters() if p.requires_grad}
    assert learning == {k for k, _ in backbone.named_parameters() if not k.startswith(("stem.", "stages.0."))}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers_to_crop": [3]}, r"layers_to_crop is \[3\]; expected the last"),
        ({"layers_to_freeze": 4}, r"layers_to_freeze is 4; expected null or 0 to 3"),
        ({"layer_to_crop": [4]}, r"unknown options \['layer_to_crop'\]; choose from \['layers_to_crop', 'layers_to_f"),
    ],
)
def test_wrong_backbone_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        build_backbone("resnet18", None, **options)


def test_weights_come_from_a_file_and_misfits_are_told(tmp_path):
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = build_backbone("resnet18", str(tmp_path / "weights.pth"))
    assert torch.equal(backbone.stem[0].weight, network.conv1.weight)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="do not fit resnet18"):
        build_backbone("resnet18", str(tmp_path / "other.pth"))
    for odd in (
        {1: torch.zeros(1)},
        {"a": torch.zeros(1, device="meta")},
        {"a": torch.zeros(1, dtype=torch.complex64)},
    ):
        torch.save(odd, tmp_path / "odd.pth")
        with pytest.raises(UserError, match="hold no state dict; expected names and tensors of real numbers"):
            build_backbone("resnet18", str(tmp_path / "odd.pth"))
    (tmp_path / "photo.pth").write_bytes(b"\x00no weights")
    with pytest.raises(UserError, match="cannot be read as a state dict"):
        build_backbone("resnet18", str(tmp_path / "photo.pth"))
    with pytest.raises(UserError, match="no such file"):
        build_backbone("resnet18", str(tmp_path / "missing.pth"))


@pytest.mark.parametrize(
    ("name", "theirs", "crop"), [("resnet18", 3, [4]), ("dinov2_vits14", 4, [3, 4]), ("convnext_tiny", 4, [])]
)
def test_weights_come_from_our_checkpoints_and_from_models_that_wrap_the_network(
    name, theirs, crop, tmp_path, quick_weights
):
    torch.manual_seed(0)
    spec = ModelSpec(name, {"layers_to_crop": list(range(theirs + 1, 5))}, "gem", {}, image_size=(56, 56))
    model = VPRModel(spec).eval()
    save_checkpoint(tmp_path / "ours.ckpt", spec, model.state_dict(), {})
    lightning = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": lightning, "epoch": 3}, tmp_path / "lightning.ckpt")
    images = torch.rand(2, 3, 56, 56)
    for file in ("ours.ckpt", "lightning.ckpt"):
        again = build_backbone(name, str(tmp_path / file), layers_to_crop=crop, layers_to_freeze=0).eval()
        cut = build_backbone(name, None, layers_to_crop=crop).eval()
        own = set(cut.state_dict())
        cut.load_state_dict({k: v for k, v in model.backbone.state_dict().items() if k in own})
        with torch.inference_mode():
            assert torch.equal(again(images), cut(images))


def test_weights_of_a_cropped_network_inside_another_project_s_checkpoint_are_found(tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None)
    kept = {k: v for k, v in network.state_dict().items() if not k.startswith(("layer4.", "fc."))}
    wrapped = {f"backbone.model.{k}": v for k, v in kept.items()} | {"aggregator.p": torch.ones(1)}
    torch.save({"state_dict": wrapped}, tmp_path / "w.ckpt")
    backbone = build_backbone("resnet18", str(tmp_path / "w.ckpt"), layers_to_crop=[4])
    assert torch.equal(backbone.stem[0].weight, network.conv1.weight)
    assert torch.equal(backbone.stages[2][1].bn2.running_var, network.layer3[1].bn2.running_var)
    with pytest.raises(UserError, match=r"do not fit resnet18: missing \['layer4.0.bn1.bias'"):
        build_backbone("resnet18", str(tmp_path / "w.ckpt"), layers_to_crop=[])
    deeper = torchvision.models.resnet34(weights=None).state_dict()
    torch.save(deeper, tmp_path / "deeper.pth")
    with pytest.raises(UserError, match=r"do not fit resnet18: missing \[\], unexpected \['layer1.2"):
        build_backbone("resnet18", str(tmp_path / "deeper.pth"), layers_to_crop=[4])


def test_imagenet_weights_come_from_torchvision_s_cache_and_the_message_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    with pytest.raises(UserError, match=rf"put the file resnet18-f37072fd.pth into {tmp_path}/hub/checkpoints"):
        build_backbone("resnet18", "imagenet")


def _no_network(*args, **kwargs):
    raise OSError("no network")


@pytest.mark.parametrize("name", [n for n in BACKBONES if not n.endswith(LARGE)])
def test_a_backbone_in_bfloat16_is_close_to_float32(name):
    torch.manual_seed(0)
    backbone = build_backbone(name, None, layers_to_crop=[3, 4]).eval()
    px = 112 if "dinov2" in name else 96
    images = torch.rand(2, 3, px, px)
    with torch.inference_mode():
        exact = backbone(images).flatten(1)
        with torch.autocast("cpu", torch.bfloat16):
            rough = backbone(images).float().flatten(1)
    assert torch.nn.functional.cosine_similarity(exact, rough).min() > 0.99


def test_a_timm_model_of_a_fixed_size_refuses_another():
    spec = ModelSpec("timm", {"model": "resmlp_12_224", "layers_to_crop": []}, "gem", {}, (320, 240))
    with pytest.raises(UserError, match="the backbone does not accept images of 320 x 240"):
        VPRModel(spec)


@pytest.mark.parametrize(
    ("model", "size"), [("vit_tiny_patch16_224", (320, 240)), ("swin_tiny_patch4_window7_224", (320, 320))]
)
def test_a_timm_model_takes_other_sizes_where_it_can(model, size):
    built = VPRModel(ModelSpec("timm", {"model": model, "layers_to_crop": []}, "gem", {}, size)).eval()
    with torch.inference_mode():
        assert built(torch.rand(1, 3, *size)).shape == (1, built.descriptor_dim)
