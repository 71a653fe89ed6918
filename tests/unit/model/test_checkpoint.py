"""A checkpoint rebuilds its model; what is not a checkpoint is refused."""

from __future__ import annotations

import pytest
import torch

from vpr.config.errors import UserError
from vpr.model.checkpoint import load_checkpoint, save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

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
