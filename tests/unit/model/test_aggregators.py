"""Every aggregator: one contract for all of them, and each against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vpr.config.errors import UserError
from vpr.model.aggregators import AGGREGATORS, Aggregator, build_aggregator

CHANNELS, MAP = 16, (5, 7)


SMALL = {"salad": {"num_clusters": 8}}  # options for a map of 35 positions


def aggregate(aggregator: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Descriptors, with a token for those that want one."""
    if aggregator.wants_token:
        return aggregator(features, features.mean(dim=(-2, -1)))
    return aggregator(features)


def unit(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_an_aggregator_makes_unit_descriptors_of_the_size_it_says_and_learns(name):
    torch.manual_seed(0)
    aggregator = build_aggregator(name, CHANNELS, MAP, **SMALL.get(name, {}))
    assert isinstance(aggregator, Aggregator)
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


@pytest.mark.parametrize("name", AGGREGATORS)
def test_an_aggregator_takes_maps_of_several_sizes_or_says_the_only_one(name):
    aggregator = build_aggregator(name, CHANNELS, MAP, **SMALL.get(name, {})).eval()
    if aggregator.fixed_map_size is not None:
        assert aggregator.fixed_map_size == MAP
        return
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
    with pytest.raises(UserError, match="num_clusters is 64, but the feature map has 35 positions"):
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


@pytest.mark.parametrize(("table", "build"), [("aggregator", lambda n: build_aggregator(n, 4, MAP))])
def test_an_unknown_name_is_refused_with_the_names(table, build):
    with pytest.raises(UserError, match="unknown aggregator 'Gem'; choose one of: avg, boq, convap, cosplace, gem"):
        build("Gem")


@pytest.mark.parametrize(("option", "value"), [("p", "3"), ("p", True), ("p", -1.0), ("q", 1)])
def test_a_wrong_option_names_component_and_option(option, value):
    with pytest.raises(UserError, match=rf"aggregator gem.*{option}"):
        build_aggregator("gem", 4, MAP, **{option: value})


@pytest.mark.parametrize("name", AGGREGATORS)
def test_clusters_are_initialised_where_an_aggregator_says_that_it_has_some(name):
    aggregator = build_aggregator(name, CHANNELS, MAP, **SMALL.get(name, {}))
    number = aggregator.num_clusters_to_initialise
    centres, local = unit(max(2, number), CHANNELS), unit(100, CHANNELS, seed=1)
    before = {k: v.clone() for k, v in aggregator.state_dict().items()}
    aggregator.initialise(centres, local)
    changed = {k for k, v in aggregator.state_dict().items() if not torch.equal(before[k], v)}
    assert bool(changed) == (number > 0)
