"""Every loss with every miner and a memory: one contract for all of them, and definitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vpr.config.errors import UserError
from vpr.config.params import Choice, Params
from vpr.training.build import build_criterion, num_own_weights, try_criterion
from vpr.training.configuration import load_configuration
from vpr.training.criterion import Criterion, count_mined
from vpr.training.losses import LOSSES, build_loss
from vpr.training.memory import check_memory
from vpr.training.miners import MINERS


def unit(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


PARAMS = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8"))
WITHOUT_MINER = {name for name, entry in LOSSES.items() if not entry.facts["takes_miner"]}
WITH_MEMORY = {name for name, entry in LOSSES.items() if entry.facts["takes_memory"]}
LABELS = torch.arange(6).repeat_interleave(4)


@pytest.mark.filterwarnings("ignore::UserWarning:pytorch_metric_learning")
@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_with_each_miner_makes_a_training_step(loss, miner):
    torch.manual_seed(0)
    if loss in WITHOUT_MINER and miner != "none":
        with pytest.raises(UserError, match=f"{loss} .* takes no miner, but miner is {miner}; set miner to none"):
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
        # The library takes a mean over what differs for triplets and where it is printed the pairs.
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
        ("ArcFaceLoss", "none", "does not compare pairs of descriptors.*memory_size of 9.* AngularLoss"),
        ("FastAPLoss", "none", "does not compare pairs of descriptors"),
        (
            "MultiSimilarityLoss",
            "BatchEasyHardMiner",
            "pick the image itself .*set memory_size to 0",
        ),
    ],
)
def test_what_does_not_go_with_a_memory_is_refused(loss, miner, reason):
    with pytest.raises(UserError, match=reason):
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
def test_the_weights_of_a_loss_are_counted_without_making_them(loss):
    built = build_loss(loss, 8, 11)
    assert num_own_weights(Choice(loss, {}), 8, 11) == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_built_from_params_yaml_as_the_stages_do(loss, tmp_path):
    params = {**PARAMS, "loss": loss, "miner": "none" if loss in WITHOUT_MINER else "MultiSimilarityMiner"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    configuration = load_configuration(Params.read(tmp_path / "params.yaml"))
    try_criterion(build_criterion(configuration, 8, num_places=4), 8)


def test_weights_of_a_loss_that_cannot_fit_are_refused_before_they_are_made(tmp_path):
    params = {**PARAMS, "loss": "ArcFaceLoss"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    configuration = load_configuration(Params.read(tmp_path / "params.yaml"))
    configuration = replace(configuration, train={**configuration.train, "max_memory_gb": 24.0})
    with pytest.raises(UserError, match=r"ArcFaceLoss has 2,539,520,000 weights for 620,000 places"):
        build_criterion(configuration, 4096, num_places=620_000)


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
    anchors = torch.tensor([0, 0, 3, 5])
    mined = count_mined((anchors, anchors, anchors, anchors), LABELS, LABELS)
    assert mined.share_without_pair == pytest.approx(1 - 3 / len(LABELS)), "gsv-cities' batch accuracy"
    empty = index[:0]
    assert count_mined((empty, empty, empty, empty), LABELS, LABELS).nothing


def test_a_combination_that_cannot_fit_is_refused_with_the_estimate():
    limit = 24 * 1024**3
    # 400 anchors, 3 positives and 396 negatives each: 475,200 triplets, 20 bytes for each of 4096 dimensions
    with pytest.raises(UserError, match=r"36\.3 GiB for 475,200 triplets .* the device has 24\.0 GiB"):
        check_memory("MultiSimilarityLoss", "AngularMiner", 100, 4, 4096, limit)
    check_memory("MultiSimilarityLoss", "AngularMiner", 100, 4, 512, limit)
    check_memory("NTXentLoss", "MultiSimilarityMiner", 100, 4, 512, limit)
    with pytest.raises(UserError, match="1,200 positive × 4,158,400 negative pairs"):
        check_memory("NTXentLoss", "none", 100, 4, 512, limit, memory_size=10_000)
    with pytest.raises(UserError, match="475,200 positive × 475,200 negative pairs"):
        check_memory("NTXentLoss", "AngularMiner", 100, 4, 512, limit)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("NTXentLoss", "temperature"),
        ("SmoothAPLoss", "temperature"),
        ("ArcFaceLoss", "scale"),
        ("NCALoss", "softmax_scale"),
    ],
)
@pytest.mark.parametrize("value", [0, -1.0])
def test_a_scale_that_is_not_positive_is_refused(name, option, value):
    with pytest.raises(UserError, match=f"loss {name}: {option} is {value}; expected a number above 0"):
        build_loss(name, 8, 4, **{option: value})
