"""A checkpoint rebuilds its model; what is not a checkpoint is refused."""

from __future__ import annotations

import os
import time
import zipfile
from dataclasses import asdict, replace
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


HUGE = {
    "a negative variance": {"backbone.stem.1.running_var": lambda value: value.fill_(-1.0)},
    "weights that overflow": {"backbone.stem.0.weight": lambda value: value.fill_(3e38)},
}


@pytest.mark.parametrize("kind", HUGE)
def test_finite_weights_with_which_nothing_is_described_are_refused(tmp_path, kind):
    model = VPRModel(SPEC)
    state = {
        name: HUGE[kind].get(name, lambda value: value)(value.clone()) for name, value in model.state_dict().items()
    }
    save_checkpoint(tmp_path / "m.ckpt", SPEC, state, {})
    with pytest.raises(UserError, match=r"m\.ckpt: the model's descriptor of an image is not finite"):
        load_checkpoint(tmp_path / "m.ckpt")


@pytest.mark.parametrize("changes", [{"std": (1e-300,) * 3}, {"mean": (1e300,) * 3}])
def test_a_normalisation_with_which_nothing_is_described_is_refused(tmp_path, changes):
    spec = replace(SPEC, **changes)
    save_checkpoint(tmp_path / "m.ckpt", spec, VPRModel(SPEC).state_dict(), {})
    with pytest.raises(UserError, match="is not finite"):
        load_checkpoint(tmp_path / "m.ckpt")


def test_compressed_records_and_huge_images_are_refused_before_they_take_memory(tmp_path):
    save_checkpoint(tmp_path / "m.ckpt", SPEC, VPRModel(SPEC).state_dict(), {})
    with zipfile.ZipFile(tmp_path / "m.ckpt") as whole, zipfile.ZipFile(tmp_path / "z.ckpt", "w") as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="its records are compressed"):
        load_checkpoint(tmp_path / "z.ckpt")
    save_checkpoint(tmp_path / "m.ckpt", replace(SPEC, image_size=(8192, 8192)), VPRModel(SPEC).state_dict(), {})
    with pytest.raises(UserError, match=r"image_size is 8192 x 8192, more than 2\.4 million"):
        load_checkpoint(tmp_path / "m.ckpt")


def test_a_format_that_is_a_tensor_is_refused(tmp_path):
    torch.save({"format": torch.ones(2)}, tmp_path / "m.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of format 1"):
        load_checkpoint(tmp_path / "m.ckpt")
