"""One contract for every backbone, aggregator, loss and miner in the tables."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
import yaml

from vpr.aggregators import AGGREGATORS, build_aggregator
from vpr.backbones import BACKBONES, build_backbone
from vpr.backbones.torchvision_networks import TORCHVISION
from vpr.configuration import build_criterion, load_configuration, try_criterion
from vpr.criterion import Criterion, check_memory, count_mined
from vpr.losses import LOSSES, WITH_MEMORY, WITHOUT_MINER
from vpr.miners import MINERS
from vpr.model import ModelSpec, VPRModel, load_checkpoint, save_checkpoint

PARAMS = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
CHANNELS, MAP = 16, (5, 7)
SMALL = {"salad": {"num_clusters": 8}}  # options for a map of 35 positions


def aggregate(aggregator: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Descriptors, with a token for those that want one."""
    if getattr(aggregator, "wants_token", False):
        return aggregator(features, features.mean(dim=(-2, -1)))
    return aggregator(features)


def unit(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize(
    ("table", "section"),
    [(BACKBONES, "backbones"), (AGGREGATORS, "aggregators"), (LOSSES, "losses"), (MINERS, "miners")],
)
def test_params_yaml_has_a_block_for_each_choice_with_the_signature_s_defaults(table, section):
    assert set(PARAMS[section]) == set(table)
    for name, options in PARAMS[section].items():
        parameters = inspect.signature(table[name]).parameters
        for option, value in options.items():
            default = parameters[option].default
            assert value == default, f"{section}.{name}.{option}"


@pytest.mark.parametrize("name", AGGREGATORS)
def test_an_aggregator_makes_unit_descriptors_of_the_size_it_says_and_learns(name):
    torch.manual_seed(0)
    aggregator = build_aggregator(name, CHANNELS, MAP, **SMALL.get(name, {}))
    features = torch.rand(3, CHANNELS, *MAP, requires_grad=True)
    descriptors = aggregate(aggregator, features)
    assert descriptors.shape == (3, aggregator.descriptor_dim)
    assert torch.allclose(descriptors.norm(dim=1), torch.ones(3), atol=1e-5)
    (descriptors * torch.randn_like(descriptors)).sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    for parameter_name, parameter in aggregator.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    aggregator.eval()
    assert torch.equal(aggregate(aggregator, features), aggregate(aggregator, features))
    assert torch.isfinite(aggregate(aggregator, torch.zeros(1, CHANNELS, *MAP))).all()


@pytest.mark.parametrize("name", AGGREGATORS)
def test_an_aggregator_in_bfloat16_is_close_to_float32(name):
    torch.manual_seed(0)
    aggregator = build_aggregator(name, CHANNELS, MAP, **SMALL.get(name, {})).eval()
    features = torch.rand(3, CHANNELS, *MAP)
    with torch.inference_mode():
        exact = aggregate(aggregator, features)
        with torch.autocast("cpu", torch.bfloat16):
            rough = aggregate(aggregator, features).float()
    assert (exact * rough).sum(1).min() > 0.995


def test_gem_is_the_generalised_mean():
    aggregator = build_aggregator("gem", 3, MAP, p=2.5)
    features = np.random.default_rng(0).random((2, 3, *MAP))
    pooled = (np.maximum(features, 1e-6) ** 2.5).mean(axis=(2, 3)) ** (1 / 2.5)
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    assert aggregator(torch.tensor(features)).detach().numpy() == pytest.approx(expected, rel=1e-6)


def test_avg_is_the_mean_over_space():
    features = np.random.default_rng(0).random((2, 3, *MAP))
    mean = features.mean(axis=(2, 3))
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    assert build_aggregator("avg", 3, MAP)(torch.tensor(features)).numpy() == pytest.approx(expected)


def test_cosplace_is_normalised_gem_and_a_linear_layer():
    torch.manual_seed(0)
    aggregator = build_aggregator("cosplace", 4, MAP, descriptor_dim=6).double()
    features = np.random.default_rng(0).normal(size=(2, 4, *MAP))
    unit_features = features / np.linalg.norm(features, axis=1, keepdims=True)
    pooled = (np.maximum(unit_features, 1e-6) ** 3).mean(axis=(2, 3)) ** (1 / 3)
    state = {k: v.numpy() for k, v in aggregator.state_dict().items()}
    projected = pooled @ state["project.weight"].T + state["project.bias"]
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    assert aggregator(torch.tensor(features)).detach().numpy() == pytest.approx(expected, rel=1e-6)


def test_convap_is_a_convolution_averaged_over_a_grid():
    torch.manual_seed(0)
    aggregator = build_aggregator("convap", 3, (4, 6), out_channels=5, s1=2, s2=3).double()
    features = np.random.default_rng(0).normal(size=(2, 3, 4, 6))
    weight, bias = (aggregator.state_dict()[f"reduce.{k}"].numpy() for k in ("weight", "bias"))
    reduced = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], features) + bias[:, None, None]
    cells = reduced.reshape(2, 5, 2, 2, 3, 2).mean(axis=(3, 5)).reshape(2, -1)
    expected = cells / np.linalg.norm(cells, axis=1, keepdims=True)
    assert aggregator(torch.tensor(features)).detach().numpy() == pytest.approx(expected, rel=1e-6)


def test_mixvpr_mixes_and_projects_channels_then_rows():
    torch.manual_seed(0)
    aggregator = build_aggregator("mixvpr", 3, (2, 4), out_channels=5, out_rows=2, mix_depth=1).double()
    state = {k: v.numpy() for k, v in aggregator.state_dict().items()}
    rows = np.random.default_rng(0).normal(size=(2, 3, 8))
    centred = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
    mixer = {k.removeprefix("mixers.0.mix."): v for k, v in state.items() if k.startswith("mixers")}
    hidden = centred * mixer["0.weight"] + mixer["0.bias"]
    hidden = np.maximum(hidden @ mixer["1.weight"].T + mixer["1.bias"], 0) @ mixer["3.weight"].T + mixer["3.bias"]
    mixed = rows + hidden
    channels = state["project_channels.weight"] @ mixed + state["project_channels.bias"][:, None]
    flat = (channels @ state["project_rows.weight"].T + state["project_rows.bias"]).reshape(2, -1)
    expected = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    result = aggregator(torch.tensor(rows.reshape(2, 3, 2, 4))).detach().numpy()
    assert result == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", sorted(set(AGGREGATORS) - {"mixvpr"}))
def test_an_aggregator_takes_maps_of_several_sizes(name):
    aggregator = build_aggregator(name, CHANNELS, MAP, **SMALL.get(name, {})).eval()
    for size in ((4, 4), (9, 3), (6, 8)):
        assert aggregate(aggregator, torch.rand(2, CHANNELS, *size)).shape == (2, aggregator.descriptor_dim)


def normed(values: np.ndarray, axis: int) -> np.ndarray:
    return values / np.linalg.norm(values, axis=axis, keepdims=True)


def softmax(values: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def state_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {k: v.detach().double().numpy() for k, v in module.state_dict().items()}


def test_max_is_the_maximum_over_space():
    features = np.random.default_rng(0).random((2, 3, *MAP))
    expected = normed(features.max(axis=(2, 3)), 1)
    assert build_aggregator("max", 3, MAP)(torch.tensor(features)).numpy() == pytest.approx(expected)


def test_netvlad_sums_softly_assigned_residuals():
    torch.manual_seed(0)
    aggregator = build_aggregator("netvlad", 4, MAP, num_clusters=3).double()
    features = np.random.default_rng(0).normal(size=(2, 4, *MAP))
    state = state_of(aggregator)
    local = normed(features, 1).reshape(2, 4, -1)
    weights = softmax(np.einsum("kc,bcn->bkn", state["assign"], local), 1)
    residuals = np.zeros((2, 3, 4))
    for b in range(2):
        for k in range(3):
            for n in range(local.shape[2]):
                residuals[b, k] += weights[b, k, n] * (local[b, :, n] - state["centres"][k])
    expected = normed(normed(residuals, 2).reshape(2, -1), 1)
    assert aggregator(torch.tensor(features)).detach().numpy() == pytest.approx(expected, rel=1e-6)


def test_netvlad_starts_with_the_nearest_cluster_counting_100_times_the_second():
    local = unit(500, 8).double()
    centres = unit(6, 8, seed=1).double() * 0.7
    aggregator = build_aggregator("netvlad", 8, MAP, num_clusters=6).double()
    aggregator.initialise(centres, local)
    scores = (local @ aggregator.assign.T).topk(2, dim=1).values
    assert (scores[:, 0] - scores[:, 1]).mean().item() == pytest.approx(np.log(100))
    assert torch.equal(aggregator.centres, centres)


def test_salad_transports_features_to_clusters_and_a_dustbin():
    torch.manual_seed(0)
    options = {"num_clusters": 4, "cluster_dim": 3, "token_dim": 5, "hidden_dim": 6}
    aggregator = build_aggregator("salad", 7, MAP, **options).double().eval()
    rng = np.random.default_rng(0)
    features, token = rng.normal(size=(2, 7, *MAP)), rng.normal(size=(2, 7))
    state = state_of(aggregator)

    def network(part, values):
        hidden = np.maximum(values @ state[f"{part}.0.weight"].reshape(6, 7).T + state[f"{part}.0.bias"], 0)
        last = "2" if part == "token" else "3"
        return hidden @ state[f"{part}.{last}.weight"].reshape(-1, 6).T + state[f"{part}.{last}.bias"]

    local = features.reshape(2, 7, -1).transpose(0, 2, 1)
    reduced, scores = network("reduce", local), network("score", local)
    n, m = scores.shape[1:]
    parts = []
    for b in range(2):
        kernel = np.exp(np.vstack([scores[b].T, np.full(n, state["dustbin"])]))
        takes, gives = np.array([1.0] * m + [n - m]) / (n + m), np.ones(n) / (n + m)
        v = np.ones(n)
        for _ in range(3):
            u = takes / (kernel @ v)
            v = gives / (kernel.T @ u)
        weights = (u[:, None] * kernel * v[None]) * (n + m)
        clusters = normed(weights[:-1] @ reduced[b], 1).T.reshape(-1)
        parts.append(np.concatenate([normed(network("token", token[b]), 0), clusters]))
    expected = normed(np.array(parts), 1)
    found = aggregator(torch.tensor(features), torch.tensor(token)).detach().numpy()
    assert found == pytest.approx(expected, rel=1e-5)


def test_salad_needs_more_positions_than_clusters():
    with pytest.raises(ValueError, match="num_clusters is 64, but the feature map has 35 positions"):
        build_aggregator("salad", CHANNELS, MAP)


def layer_norm(values, state, name):
    centred = (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True) + 1e-5)
    return centred * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention(state, name, queries, keys, heads):
    dim = queries.shape[-1]
    weights = np.split(state[f"{name}.in_proj_weight"], 3)
    biases = np.split(state[f"{name}.in_proj_bias"], 3)
    q, k, v = (x @ w.T + b for x, w, b in zip((queries, keys, keys), weights, biases, strict=True))
    out = np.zeros_like(q)
    for h in range(heads):
        part = slice(h * dim // heads, (h + 1) * dim // heads)
        scores = q[:, part] @ k[:, part].T / np.sqrt(dim / heads)
        out[:, part] = softmax(scores, 1) @ v[:, part]
    return out @ state[f"{name}.out_proj.weight"].T + state[f"{name}.out_proj.bias"]


def test_boq_lets_queries_attend_to_encoded_features():
    torch.manual_seed(0)
    aggregator = build_aggregator("boq", 3, (4, 5), proj_channels=128, num_queries=4, num_layers=2, row_dim=3)
    aggregator = aggregator.double().eval()
    features = np.random.default_rng(0).normal(size=(1, 3, 4, 5))
    state = state_of(aggregator)
    padded = np.pad(features[0], ((0, 0), (1, 1), (1, 1)))
    projected = np.zeros((128, 4, 5))
    for y in range(4):
        for x in range(5):
            window = padded[:, y : y + 3, x : x + 3]
            projected[:, y, x] = np.einsum("ocij,cij->o", state["project.weight"], window) + state["project.bias"]
    rows = layer_norm(projected.reshape(128, -1).T, state, "norm")
    answers = []
    for k in range(2):
        block = {name.removeprefix(f"blocks.{k}."): v for name, v in state.items() if name.startswith(f"blocks.{k}.")}
        encoded = rows + attention(block, "encoder.self_attn", rows, rows, 2)
        encoded = layer_norm(encoded, block, "encoder.norm1")
        hidden = np.maximum(encoded @ block["encoder.linear1.weight"].T + block["encoder.linear1.bias"], 0)
        encoded = encoded + hidden @ block["encoder.linear2.weight"].T + block["encoder.linear2.bias"]
        rows = layer_norm(encoded, block, "encoder.norm2")
        queries = block["queries"][0]
        queries = layer_norm(queries + attention(block, "self_attention", queries, queries, 2), block, "norm_queries")
        answers.append(layer_norm(attention(block, "cross_attention", queries, rows, 2), block, "norm_answers"))
    mixed = np.concatenate(answers).T @ state["mix.weight"].T + state["mix.bias"]
    expected = normed(mixed.reshape(1, -1), 1)
    assert aggregator(torch.tensor(features)).detach().numpy() == pytest.approx(expected, rel=1e-6)


def test_mixvpr_takes_its_size_from_the_map_and_refuses_another():
    aggregator = build_aggregator("mixvpr", CHANNELS, (3, 4))
    with pytest.raises(ValueError, match=r"feature map of \(3, 4\), got \(5, 7\)"):
        aggregator(torch.rand(1, CHANNELS, *MAP))


STRIDES = {"vgg16": (16, 16, 8), **dict.fromkeys(("dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14"), (14, 14, 14))}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_says_its_channels_and_its_stride_follows_from_the_stages_cropped(name):
    for crop, stride in zip(((), (4,), (3, 4)), STRIDES.get(name, (32, 16, 8)), strict=True):
        backbone = build_backbone(name, None, layers_to_crop=list(crop)).eval()
        with torch.inference_mode():
            features = backbone(torch.rand(2, 3, 84, 112 if "dinov2" in name else 64))
        assert features.shape[:2] == (2, backbone.out_channels)
        for size, pixels in zip(features.shape[2:], (84, 112 if "dinov2" in name else 64), strict=True):
            assert pixels // stride <= size <= -(-pixels // stride)


LARGE = ("_s", "_b", "small", "base", "101", "152", "b14", "l14")  # the same code as their smaller siblings


@pytest.mark.parametrize("name", [n for n in BACKBONES if not n.endswith(LARGE)])
def test_freezing_stages_leaves_them_as_they_are_and_gradients_reach_the_rest(name):
    torch.manual_seed(0)
    backbone = build_backbone(name, None, layers_to_crop=[4], layers_to_freeze=1).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    px = 112 if "dinov2" in name else 64
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


def uncropped(name: str, network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The feature map by torchvision's own modules."""
    if name.startswith("res"):
        for child in list(network.children())[:-2]:
            images = child(images)
        return images
    if name.startswith("swin"):
        return network.permute(network.norm(network.features(images)))
    return network.features[:30](images) if name == "vgg16" else network.features(images)


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_torchvision_backbone_gives_torchvision_s_features_from_its_weights(name, tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.get_model({"resnext50": "resnext50_32x4d"}.get(name, name), weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    backbone = build_backbone(name, str(tmp_path / "w.pth"), layers_to_crop=[]).eval()
    images = torch.rand(2, 3, 96, 64)
    with torch.inference_mode():
        assert torch.allclose(backbone(images), uncropped(name, network, images), rtol=1e-5, atol=1e-6)


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


def test_dinov2_gives_timm_s_tokens_at_the_size_it_was_trained_at_and_resizes_positions_as_its_authors_do(tmp_path):
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
    with pytest.raises(ValueError, match="trained_blocks is 13; expected 0 to 12"):
        build_backbone("dinov2_vits14", None, trained_blocks=13)
    with pytest.raises(ValueError, match="both given"):
        build_backbone("dinov2_vits14", None, trained_blocks=1, layers_to_freeze=1)


def test_an_unknown_timm_model_is_refused_with_near_names():
    with pytest.raises(ValueError, match=r"timm has no model 'convnextv2_nanno'; it has .*convnext"):
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
    with pytest.raises(ValueError, match=message):
        build_backbone("resnet18", None, **options)


def test_weights_come_from_a_file_and_misfits_are_told(tmp_path):
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = build_backbone("resnet18", str(tmp_path / "weights.pth"))
    assert torch.equal(backbone.stem[0].weight, network.conv1.weight)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="do not fit resnet18"):
        build_backbone("resnet18", str(tmp_path / "other.pth"))
    (tmp_path / "photo.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="can't be read as a state dict"):
        build_backbone("resnet18", str(tmp_path / "photo.pth"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        build_backbone("resnet18", str(tmp_path / "missing.pth"))


@pytest.mark.parametrize(
    ("name", "theirs", "crop"), [("resnet18", 3, [4]), ("dinov2_vits14", 4, [3, 4]), ("convnext_tiny", 4, [])]
)
def test_weights_come_from_our_checkpoints_and_from_models_that_wrap_the_network(name, theirs, crop, tmp_path):
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
    with pytest.raises(ValueError, match=r"do not fit resnet18: missing \['layer4.0.bn1.bias'"):
        build_backbone("resnet18", str(tmp_path / "w.ckpt"), layers_to_crop=[])
    deeper = torchvision.models.resnet34(weights=None).state_dict()
    torch.save(deeper, tmp_path / "deeper.pth")
    with pytest.raises(ValueError, match=r"do not fit resnet18: missing \[\], unexpected \['layer1.2"):
        build_backbone("resnet18", str(tmp_path / "deeper.pth"), layers_to_crop=[4])


def test_imagenet_weights_come_from_torchvision_s_cache_and_the_message_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    with pytest.raises(OSError, match=rf"put the file resnet18-f37072fd.pth into {tmp_path}/hub/checkpoints"):
        build_backbone("resnet18", "imagenet")


def _no_network(*args, **kwargs):
    raise OSError("no network")


@pytest.mark.parametrize(("table", "build"), [("aggregator", lambda n: build_aggregator(n, 4, MAP))])
def test_an_unknown_name_is_refused_with_the_names(table, build):
    with pytest.raises(ValueError, match="unknown aggregator 'Gem'; choose one of: avg, boq, convap, cosplace, gem"):
        build("Gem")


@pytest.mark.parametrize(("option", "value"), [("p", "3"), ("p", True), ("p", -1.0), ("q", 1)])
def test_a_wrong_option_names_component_and_option(option, value):
    with pytest.raises(ValueError, match=rf"aggregator gem.*{option}"):
        build_aggregator("gem", 4, MAP, **{option: value})


LABELS = torch.arange(6).repeat_interleave(4)


@pytest.mark.filterwarnings("ignore::UserWarning:pytorch_metric_learning")
@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_with_each_miner_makes_a_training_step(loss, miner):
    torch.manual_seed(0)
    if loss in WITHOUT_MINER and miner != "none":
        with pytest.raises(
            ValueError, match=f"{loss} .* takes no mined pairs, and miner is {miner}; set miner to none"
        ):
            Criterion(loss, {}, miner, {}, descriptor_dim=8, num_places=6)
        return
    criterion = Criterion(loss, {}, miner, {}, descriptor_dim=8, num_places=6)
    weight = torch.nn.Parameter(torch.randn(8, 8) * 0.3 + torch.eye(8))
    descriptors = torch.nn.functional.normalize(unit(24, 8) @ weight, dim=1)
    value, mined = criterion(descriptors, LABELS)
    assert value.shape == ()
    assert torch.isfinite(value)
    assert 0 <= mined.informative_share <= 1
    value.backward()
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()
    if not mined.nothing:
        assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_miner_run_in_float32_under_autocast(loss):
    miner = "none" if loss in WITHOUT_MINER else "MultiSimilarityMiner"
    criterion = Criterion(loss, {}, miner, {}, descriptor_dim=8, num_places=6)
    descriptors = unit(24, 8)
    exact, _ = criterion(descriptors, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        same, _ = criterion(descriptors, LABELS)
    assert same.dtype == torch.float32
    assert torch.equal(exact, same)


def test_a_miner_that_finds_nothing_moves_nothing_and_is_counted():
    perfect = torch.nn.functional.one_hot(LABELS, 6).float().requires_grad_()
    for loss in sorted(set(LOSSES) - WITHOUT_MINER):
        criterion = Criterion(loss, {}, "MultiSimilarityMiner", {}, descriptor_dim=6, num_places=6)
        value, mined = criterion(perfect, LABELS)
        assert mined.nothing
        assert (value.item(), mined.informative_share) == (0.0, 0.0)
        value.backward()


@pytest.mark.filterwarnings("ignore::UserWarning:pytorch_metric_learning")
@pytest.mark.parametrize("miner", sorted(set(MINERS) - {"BatchEasyHardMiner"}))
@pytest.mark.parametrize("loss", sorted(WITH_MEMORY))
def test_a_loss_compares_with_the_memory(loss, miner):
    """An empty memory changes nothing that is compared; a filled one moves the batch alone."""
    descriptors, labels = unit(24, 8), LABELS

    def criterion(memory_size):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002, some miners draw from it
        return Criterion(loss, {}, miner, {}, descriptor_dim=8, num_places=6, memory_size=memory_size)

    remembering = criterion(30)
    first, mined = remembering(descriptors, labels)
    if miner == "none":
        # The library takes a mean over what differs for triplets and where it is told the pairs.
        assert mined.informative_share == 1.0
    assert torch.isfinite(first)
    later = unit(24, 8, seed=1).requires_grad_()
    value, mined = remembering(later, labels)
    assert torch.isfinite(value)
    assert 0 <= mined.informative_share <= 1
    value.backward()
    assert torch.isfinite(later.grad).all()
    assert torch.equal(remembering.kept, torch.cat([descriptors, later.detach()])[-30:])
    assert remembering.kept_labels.tolist() == [*labels[-6:], *labels]
    again = criterion(30)
    again.load_state_dict(remembering.state_dict())
    assert torch.equal(again.kept, remembering.kept)


def test_the_memory_s_loss_is_that_of_the_pairs_with_it():
    """Contrastive loss by hand: positives and negatives among the batch and what came before."""
    first, second = unit(24, 8), unit(24, 8, seed=1)
    other_labels = LABELS + 3  # half of the places come again
    criterion = Criterion("ContrastiveLoss", {"pos_margin": 0.1, "neg_margin": 0.9}, "none", {}, 8, 9, memory_size=100)
    criterion(first, LABELS)
    value, _ = criterion(second, other_labels)
    x, y = second.double().numpy(), torch.cat([second, first]).double().numpy()
    labels, others = other_labels.numpy(), torch.cat([other_labels, LABELS]).numpy()
    positive, negative = [], []
    for i in range(24):
        for j in range(48):
            if i == j:
                continue
            distance = np.linalg.norm(x[i] - y[j])
            violation = max(0.0, distance - 0.1) if labels[i] == others[j] else max(0.0, 0.9 - distance)
            (positive if labels[i] == others[j] else negative).append(violation)
    expected = np.mean([v for v in positive if v > 0]) + np.mean([v for v in negative if v > 0])
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_an_empty_memory_gives_the_loss_of_the_batch_alone():
    for loss in ("ContrastiveLoss", "MultiSimilarityLoss", "TripletMarginLoss", "NTXentLoss", "CircleLoss"):
        for miner in ("none", "MultiSimilarityMiner"):
            plain, _ = Criterion(loss, {}, miner, {}, 8, 6)(unit(24, 8), LABELS)
            remembering, _ = Criterion(loss, {}, miner, {}, 8, 6, memory_size=50)(unit(24, 8), LABELS)
            assert remembering.item() == pytest.approx(plain.item(), rel=1e-4), (loss, miner)


@pytest.mark.parametrize(
    ("loss", "miner", "reason"),
    [
        ("ArcFaceLoss", "none", "does not compare two descriptors .* so memory_size 9 has no meaning .* AngularLoss"),
        ("FastAPLoss", "none", "does not compare two descriptors"),
        ("MultiSimilarityLoss", "BatchEasyHardMiner", "is the image itself; set memory_size to 0, or choose BatchHard"),
    ],
)
def test_what_does_not_go_with_a_memory_is_refused(loss, miner, reason):
    with pytest.raises(ValueError, match=reason):
        Criterion(loss, {}, miner, {}, 8, 6, memory_size=9)


def test_multi_similarity_is_its_definition():
    descriptors = unit(24, 8)
    similarity = (descriptors @ descriptors.T).double().numpy()
    same = (LABELS[:, None] == LABELS[None]).numpy()
    total = 0.0
    for i in range(24):
        positive = similarity[i][same[i] & (np.arange(24) != i)]
        negative = similarity[i][~same[i]]
        total += np.log1p(np.exp(-positive).sum()) + np.log1p(np.exp(50 * negative).sum()) / 50
    value, _ = Criterion("MultiSimilarityLoss", {}, "none", {}, 8, 6)(descriptors, LABELS)
    assert value.item() == pytest.approx(total / 24, rel=1e-5)


def test_angular_loss_is_its_definition():
    """Wang et al. 2017, equation 6 with all negatives: log(1 + sum exp(4 tan² α (a + p)·n - 2 (1 + tan² α) a·p))."""
    descriptors = unit(24, 8)
    x, labels = descriptors.double().numpy(), LABELS.numpy()
    tan2 = np.tan(np.radians(40.0)) ** 2
    values = []
    for a in range(24):
        for p in np.flatnonzero((labels == labels[a]) & (np.arange(24) != a)):
            negatives = x[labels != labels[a]]
            terms = 4 * tan2 * (negatives @ (x[a] + x[p])) - 2 * (1 + tan2) * (x[a] @ x[p])
            values.append(np.log1p(np.exp(terms).sum()))
    value, _ = Criterion("AngularLoss", {"alpha": 40.0}, "none", {}, 8, 6)(descriptors, LABELS)
    assert value.item() == pytest.approx(np.mean(values), rel=1e-5)


def test_nt_xent_is_its_definition():
    descriptors = unit(24, 8)
    x, labels = descriptors.double().numpy(), LABELS.numpy()
    values = []
    for a in range(24):
        negatives = np.exp(x[labels != labels[a]] @ x[a] / 0.07).sum()
        for p in np.flatnonzero((labels == labels[a]) & (np.arange(24) != a)):
            positive = np.exp(x[a] @ x[p] / 0.07)
            values.append(-np.log(positive / (positive + negatives)))
    value, _ = Criterion("NTXentLoss", {"temperature": 0.07}, "none", {}, 8, 6)(descriptors, LABELS)
    assert value.item() == pytest.approx(np.mean(values), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_built_from_params_yaml_as_the_stages_do(loss, tmp_path):
    params = {**PARAMS, "loss": loss, "miner": "none" if loss in WITHOUT_MINER else "MultiSimilarityMiner"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    configuration = load_configuration(tmp_path / "params.yaml")
    model = SimpleNamespace(descriptor_dim=8)
    try_criterion(build_criterion(configuration, model, num_places=4), 8)


def test_weights_of_a_loss_that_cannot_fit_are_refused_before_they_are_made(tmp_path):
    params = {**PARAMS, "loss": "SoftTripleLoss"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    configuration = load_configuration(tmp_path / "params.yaml")
    configuration = replace(configuration, train=replace(configuration.train, max_memory_gb=24.0))
    with pytest.raises(ValueError, match=r"SoftTripleLoss has 2,539,520,000 weights of its own for 62,000 places"):
        build_criterion(configuration, SimpleNamespace(descriptor_dim=4096), num_places=62_000)


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


@pytest.mark.parametrize(
    ("model", "size"), [("vit_tiny_patch16_224", (320, 240)), ("swin_tiny_patch4_window7_224", (320, 320))]
)
def test_a_timm_model_takes_other_sizes_or_says_that_it_does_not(model, size):
    spec = ModelSpec("timm", {"model": model, "layers_to_crop": []}, "gem", {}, size)
    try:
        built = VPRModel(spec).eval()
    except ValueError as error:
        assert re.search("the backbone takes no images of 320 x", str(error))  # noqa: PT017, either is right
        return
    with torch.inference_mode():
        assert built(torch.rand(1, 3, *size)).shape == (1, built.descriptor_dim)


def test_centroid_triplet_is_its_definition():
    descriptors = unit(24, 8).double()
    x = descriptors.numpy()
    labels = LABELS.numpy()

    def norm(v):
        return v / np.linalg.norm(v)

    values = []
    for i in range(24):
        own = norm(x[(labels == labels[i]) & (np.arange(24) != i)].mean(0))
        for place in set(labels) - {labels[i]}:
            other = norm(x[labels == place].mean(0))
            values.append(max(0.0, np.linalg.norm(x[i] - own) - np.linalg.norm(x[i] - other) + 0.05))
    expected = sum(values) / sum(v > 0 for v in values)
    value, _ = Criterion("CentroidTripletLoss", {}, "none", {}, 8, 6)(descriptors, LABELS)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_the_share_of_mined_pairs_and_triplets_is_of_all_there_are():
    # 6 places x 4 images: 72 positive and 480 negative ordered pairs, 24 * 3 * 20 = 1440 triplets.
    index = torch.zeros(36, dtype=torch.long)
    assert count_mined((index, index, index, index), LABELS, LABELS).informative_share == pytest.approx(72 / 552)
    assert count_mined((index, index, index), LABELS, LABELS).informative_share == pytest.approx(36 / 1440)
    empty = index[:0]
    assert count_mined((empty, empty, empty, empty), LABELS, LABELS).nothing


def test_a_combination_that_cannot_fit_is_refused_with_the_arithmetic():
    with pytest.raises(ValueError, match=r"400·3·396 = 475,200 triplets × 4096 dimensions × 4 bytes = 36.3 GiB") as e:
        check_memory("MultiSimilarityLoss", "AngularMiner", 100, 4, 4096, 24 * 1024**3)
    assert "24.0 GiB" in str(e.value)
    check_memory("MultiSimilarityLoss", "AngularMiner", 100, 4, 512, 24 * 1024**3)
    check_memory("NTXentLoss", "MultiSimilarityMiner", 100, 4, 512, 24 * 1024**3)
    with pytest.raises(ValueError, match=r"images and 10,000 remembered has NTXentLoss builds 5 matrices of 1,200 pos"):
        check_memory("NTXentLoss", "none", 100, 4, 512, 24 * 1024**3, memory_size=10_000)
    with pytest.raises(ValueError, match=r"NTXentLoss builds 5 matrices of 475,200 × 475,200 triplets"):
        check_memory("NTXentLoss", "AngularMiner", 100, 4, 512, 24 * 1024**3)


SPEC = ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, "mixvpr", {"mix_depth": 1}, image_size=(32, 48))


def test_a_checkpoint_rebuilds_the_model_with_its_configuration(tmp_path):
    torch.manual_seed(0)
    model = VPRModel(SPEC).eval()
    save_checkpoint(tmp_path / "m.ckpt", SPEC, model.state_dict(), {"trained": "here"})
    again, notes = load_checkpoint(tmp_path / "m.ckpt")
    images = torch.rand(2, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(model(images), again(images))
    assert (again.spec, notes) == (SPEC, {"trained": "here"})


def test_checkpoints_of_equal_weights_are_equal_files(tmp_path):
    model = VPRModel(SPEC)
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name / "m.ckpt", SPEC, model.state_dict(), {})
    assert (tmp_path / "a" / "m.ckpt").read_bytes() == (tmp_path / "b" / "m.ckpt").read_bytes()


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `dvc repro train` first"):
        load_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "photo.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="not a checkpoint of this project"):
        load_checkpoint(tmp_path / "photo.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="not a checkpoint of format 1"):
        load_checkpoint(tmp_path / "other.ckpt")
