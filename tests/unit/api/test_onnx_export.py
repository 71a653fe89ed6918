"""Models as ONNX: descriptors by another runtime."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import vpr
from vpr import cli
from vpr.model.checkpoint import save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

onnxruntime = pytest.importorskip("onnxruntime", reason="`make setup-onnx` installs it")


def export(checkpoint, out, monkeypatch) -> int:
    monkeypatch.setattr("sys.argv", ["vpr", "export", "--onnx", str(out), "--model", str(checkpoint)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


@pytest.mark.parametrize(
    ("aggregator", "options", "pca_dim"),
    [("gem", {}, None), ("boq", {"proj_channels": 64, "num_queries": 4, "row_dim": 2}, 16)],
)
def test_another_runtime_gives_the_same_descriptors_for_any_number_of_photos(
    aggregator, options, pca_dim, photos, tmp_path, monkeypatch, capsys
):
    torch.manual_seed(0)
    spec = ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, aggregator, options, (48, 64), pca_dim=pca_dim)
    save_checkpoint(tmp_path / "m.ckpt", spec, VPRModel(spec).state_dict(), {})
    assert export(tmp_path / "m.ckpt", tmp_path / "m.onnx", monkeypatch) == 0, capsys.readouterr().err
    assert "images 48×64 -> " in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    model = vpr.load(tmp_path / "m.ckpt", "cpu")
    preprocess = model.spec.preprocess()
    for number in (1, 3):
        batch = torch.stack([preprocess.read(photo) for photo in photos[:number]])
        (found,) = session.run(None, {"images": batch.numpy()})
        assert found.shape == (number, model.descriptor_dim)
        with torch.inference_mode():
            np.testing.assert_allclose(found, model.network(batch).numpy(), atol=1e-4)
    known = session.get_modelmeta().custom_metadata_map
    assert ModelSpec.from_dict(json.loads(known["vpr_spec"])) == spec
    assert (known["image_height_px"], known["image_width_px"]) == ("48", "64")
    assert "antialiasing" in known["resize"]


def test_what_onnx_has_not_is_refused_with_the_reason_and_nothing_is_written(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(VPRModel, "describe", lambda self, features, token: torch.linalg.svdvals(features.flatten(2)))
    assert export(checkpoint, tmp_path / "m.onnx", monkeypatch) == 1
    assert "resnet18 with gem can't be written as ONNX: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
