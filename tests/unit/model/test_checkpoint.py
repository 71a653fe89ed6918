"""A checkpoint rebuilds its model; what is not a checkpoint is refused."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from vpr.config.errors import UserError
from vpr.model.checkpoint import load_checkpoint, save_checkpoint
from vpr.model.describing import Describer
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.training.run import use_checkpoint

SPEC = ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, "mixvpr", {"mix_depth": 1}, image_size=(32, 48))


def test_a_checkpoint_rebuilds_the_model_with_its_configuration(tmp_path):
    torch.manual_seed(0)
    model = VPRModel(SPEC).eval()
    save_checkpoint(tmp_path / "m.ckpt", SPEC, model.state_dict(), {"trained": "here"})
    again, metadata = load_checkpoint(tmp_path / "m.ckpt")
    images = torch.rand(2, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(model(images), again(images))
    assert (again.spec, metadata) == (SPEC, {"trained": "here"})


def test_checkpoints_of_equal_weights_are_equal_files(tmp_path):
    model = VPRModel(SPEC)
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name / "m.ckpt", SPEC, model.state_dict(), {})
    assert (tmp_path / "a" / "m.ckpt").read_bytes() == (tmp_path / "b" / "m.ckpt").read_bytes()


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="run `dvc repro train` first"):
        load_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "photo.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="not a checkpoint of this project"):
        load_checkpoint(tmp_path / "photo.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of format 1"):
        load_checkpoint(tmp_path / "other.ckpt")


def content() -> dict:
    """Return the content of a checkpoint."""
    spec = {**asdict(SPEC), "image_size": [32, 48]}
    return {"format": 1, "spec": spec, "state_dict": VPRModel(SPEC).state_dict(), "metadata": {"epoch": 1}}


def with_spec(**changes) -> dict:
    return {"spec": {**content()["spec"], **changes}}


def nested(depth: int) -> list:
    """A list that names itself twice on each of so many levels."""
    value: list = []
    for _ in range(depth):
        value = [value, value]
    return value


FIRST = "backbone.stem.0.weight"
ODD = {
    "no spec": ({"spec": None}, "spec: expected a mapping"),
    "spec is a list": ({"spec": [1]}, "spec: expected a mapping"),
    "another key": (with_spec(depth=3), "spec: expected a mapping"),
    "half a spec": ({"spec": {"backbone": "resnet18"}}, "spec: backbone_options: Field required"),
    "unknown backbone": (with_spec(backbone="resnet19"), "unknown backbone 'resnet19'"),
    "options are a text": (with_spec(aggregator_options="many"), "spec: aggregator_options"),
    "unknown option": (with_spec(aggregator_options={"q": 1}), r"unknown options \['q'\]"),
    "option out of range": (with_spec(aggregator_options={"out_channels": 10**9}), "out_channels is out of range"),
    "larger than memory": (
        with_spec(aggregator="boq", aggregator_options={"proj_channels": 99968}),
        "does not fit in memory",
    ),
    "a weight that claims to be larger than it is": (
        {
            **with_spec(aggregator="netvlad", aggregator_options={"num_clusters": 100_000}, pca_dim=100_000),
            "state_dict": {FIRST: torch.zeros(1).expand(10**12)},
        },
        "does not fit in memory",
    ),
    "one size": (with_spec(image_size=[32]), "spec: image_size"),
    "huge image": (with_spec(image_size=[10**9, 10**9]), r"spec: image_size\.0"),
    "deviation of zero": (with_spec(std=(0.0, 1.0, 1.0)), r"spec: std\.0"),
    "mean is no number": (with_spec(mean=(float("nan"), 1.0, 1.0)), r"spec: mean\.0"),
    "no weights": ({"state_dict": None}, "has no weights"),
    "weights are a list": ({"state_dict": [torch.zeros(1)]}, "has no weights"),
    "a weight is a text": ({"state_dict": {FIRST: "large"}}, "has no weights"),
    "complex weights": ({"state_dict": {FIRST: torch.zeros(1, dtype=torch.complex64)}}, "has no weights"),
    "weights without numbers": ({"state_dict": {FIRST: torch.empty(1, device="meta")}}, "has no weights"),
    "missing weights": ({"state_dict": {FIRST: torch.zeros(64, 3, 7, 7)}}, "do not fit its model.*Missing key"),
    "weights of another shape": (
        {"state_dict": {**VPRModel(SPEC).state_dict(), FIRST: torch.zeros(1)}},
        "do not fit its model.*size mismatch",
    ),
    "a weight of 10^12 numbers in 4 bytes": (
        {"state_dict": {**VPRModel(SPEC).state_dict(), FIRST: torch.zeros(1).expand(10**12)}},
        "do not fit its model.*size mismatch",
    ),
    "weights whose names are numbers": ({"state_dict": {1: torch.zeros(1)}}, "has no weights"),
    "a weight that is not a number": (
        {"state_dict": {**VPRModel(SPEC).state_dict(), FIRST: torch.full((64, 3, 7, 7), torch.nan)}},
        "the weights 'backbone.stem.0.weight' are not all finite",
    ),
    "no metadata": ({"metadata": None}, "metadata is missing"),
    "metadata is a list": ({"metadata": [1]}, "metadata is missing"),
    "a tensor in the metadata": ({"metadata": {"a": torch.zeros(1)}}, "holds a value of the type Tensor"),
    "metadata that grows": ({"metadata": {"a": nested(40)}}, "holds more than 1,000,000 values"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_checkpoint_that_lacks_or_has_odd_parts_is_refused_with_a_sentence(tmp_path, name):
    changes, message = ODD[name]
    torch.save({**content(), **changes}, tmp_path / "odd.ckpt")
    began = time.monotonic()
    with pytest.raises(UserError, match=message) as refused:
        load_checkpoint(tmp_path / "odd.ckpt")
    assert str(tmp_path / "odd.ckpt") in str(refused.value)
    assert time.monotonic() - began < 10


def test_a_checkpoint_of_before_and_one_with_lists_are_read(tmp_path):
    before = content()
    before["notes"] = before.pop("metadata")
    torch.save(before, tmp_path / "before.ckpt")
    assert load_checkpoint(tmp_path / "before.ckpt")[1] == {"epoch": 1}


def test_a_checkpoint_without_the_training_s_parameters_can_not_be_evaluated_as_a_run(tmp_path):
    save_checkpoint(tmp_path / "m.ckpt", SPEC, VPRModel(SPEC).state_dict(), {"epoch": 1, "configuration": {"agg": 3}})
    with pytest.raises(UserError, match=r"m\.ckpt: the checkpoint does not say what the model was trained with"):
        use_checkpoint(tmp_path / "m.ckpt", tmp_path / "models", "digest")


def test_a_full_disk_is_named_and_leaves_no_half_checkpoint(small_disk):
    small_disk("1m")
    disk = Path(os.environ["DATA_ROOT"])
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(disk / "m.ckpt", SPEC, VPRModel(SPEC).state_dict(), {})
    assert list(disk.iterdir()) == []


def test_descriptors_that_are_no_numbers_are_refused():
    model = VPRModel(SPEC)
    with torch.no_grad():
        model.aggregator.project_rows.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="from image 1 of 2 on are not finite"):
        Describer(model, torch.device("cpu")).describe(
            torch.rand(2, 3, 32, 48), np.empty((2, model.descriptor_dim), np.float32)
        )
