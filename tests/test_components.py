"""One contract for every backbone, aggregator, loss and miner in the tables."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vpr.aggregators import AGGREGATORS, build_aggregator
from vpr.backbones import BACKBONES, build_backbone
from vpr.criterion import Criterion, check_memory, count_mined
from vpr.losses import LOSSES
from vpr.miners import MINERS
from vpr.model import ModelSpec, VPRModel, load_checkpoint, save_checkpoint

PARAMS = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
CHANNELS, MAP = 16, (5, 7)


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
    aggregator = build_aggregator(name, CHANNELS, MAP)
    features = torch.rand(3, CHANNELS, *MAP, requires_grad=True)
    descriptors = aggregator(features)
    assert descriptors.shape == (3, aggregator.descriptor_dim)
    assert torch.allclose(descriptors.norm(dim=1), torch.ones(3), atol=1e-5)
    (descriptors * torch.randn_like(descriptors)).sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    for parameter_name, parameter in aggregator.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    aggregator.eval()
    assert torch.equal(aggregator(features), aggregator(features))
    assert torch.isfinite(aggregator(torch.zeros(1, CHANNELS, *MAP))).all()


@pytest.mark.parametrize("name", AGGREGATORS)
def test_an_aggregator_in_bfloat16_is_close_to_float32(name):
    torch.manual_seed(0)
    aggregator = build_aggregator(name, CHANNELS, MAP).eval()
    features = torch.rand(3, CHANNELS, *MAP)
    with torch.inference_mode():
        exact = aggregator(features)
        with torch.autocast("cpu", torch.bfloat16):
            rough = aggregator(features).float()
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


def test_mixvpr_takes_its_size_from_the_map_and_refuses_another():
    aggregator = build_aggregator("mixvpr", CHANNELS, (3, 4))
    with pytest.raises(ValueError, match=r"feature map of \(3, 4\), got \(5, 7\)"):
        aggregator(torch.rand(1, CHANNELS, *MAP))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize(("crop", "stride"), [((), 32), ((4,), 16), ((3, 4), 8)])
def test_a_backbone_says_its_channels_and_halves_its_stride_with_each_cropped_stage(name, crop, stride):
    backbone = build_backbone(name, None, layers_to_crop=list(crop))
    features = backbone(torch.rand(2, 3, 96, 64))
    assert features.shape == (2, backbone.out_channels, 96 // stride, 64 // stride)


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
    import torchvision

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


def test_imagenet_weights_come_from_torchvision_s_cache_and_the_message_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    with pytest.raises(OSError, match=rf"put the file resnet18-f37072fd.pth into {tmp_path}/hub/checkpoints"):
        build_backbone("resnet18", "imagenet")


def _no_network(*args, **kwargs):
    raise OSError("no network")


@pytest.mark.parametrize(("table", "build"), [("aggregator", lambda n: build_aggregator(n, 4, MAP))])
def test_an_unknown_name_is_refused_with_the_names(table, build):
    with pytest.raises(ValueError, match="unknown aggregator 'Gem'; choose one of: avg, convap, cosplace, gem, mixvpr"):
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
    criterion = Criterion(loss, {}, "MultiSimilarityMiner", {}, descriptor_dim=8, num_places=6)
    descriptors = unit(24, 8)
    exact, _ = criterion(descriptors, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        same, _ = criterion(descriptors, LABELS)
    assert same.dtype == torch.float32
    assert torch.equal(exact, same)


def test_a_miner_that_finds_nothing_moves_nothing_and_is_counted():
    perfect = torch.nn.functional.one_hot(LABELS, 6).float().requires_grad_()
    for loss in LOSSES:
        criterion = Criterion(loss, {}, "MultiSimilarityMiner", {}, descriptor_dim=6, num_places=6)
        value, mined = criterion(perfect, LABELS)
        assert mined.nothing
        assert (value.item(), mined.informative_share) == (0.0, 0.0)
        value.backward()


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
    assert count_mined((index, index, index, index), LABELS).informative_share == pytest.approx(72 / 552)
    assert count_mined((index, index, index), LABELS).informative_share == pytest.approx(36 / 1440)
    empty = index[:0]
    assert count_mined((empty, empty, empty, empty), LABELS).nothing


def test_a_combination_that_cannot_fit_is_refused_with_the_arithmetic():
    with pytest.raises(ValueError, match=r"400·3·396 = 475,200 triplets × 4096 dimensions × 4 bytes = 36.3 GiB") as e:
        check_memory("MultiSimilarityLoss", "AngularMiner", 100, 4, 4096, 24 * 1024**3)
    assert "24.0 GiB" in str(e.value)
    check_memory("MultiSimilarityLoss", "AngularMiner", 100, 4, 512, 24 * 1024**3)
    check_memory("NTXentLoss", "MultiSimilarityMiner", 100, 4, 512, 24 * 1024**3)
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
