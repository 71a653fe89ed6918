"""Models for other programs: descriptors by another runtime, and by torch without this code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import vpr
from vpr.api.export import export_torch
from vpr.commands import main as cli
from vpr.model.aggregators import AGGREGATORS
from vpr.model.checkpoint import save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

BOQ = {"proj_channels": 64, "num_queries": 4, "row_dim": 2}
OPTIONS = {"boq": BOQ, "salad": {"num_clusters": 4}, "netvlad": {"num_clusters": 4}}
OPTIONS["mixvpr"] = {"out_channels": 16, "out_rows": 2}


def save(path, aggregator: str, options: dict, pca_dim: int | None = None) -> ModelSpec:
    torch.manual_seed(0)
    spec = ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, aggregator, options, (48, 64), pca_dim=pca_dim)
    save_checkpoint(path, spec, VPRModel(spec).state_dict(), {})
    return spec


def export(checkpoint, kind: str, out, monkeypatch) -> int:
    monkeypatch.setattr("sys.argv", ["vpr", "export", f"--{kind}", str(out), "--model", str(checkpoint)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_another_runtime_gives_the_same_descriptors_for_any_number_of_photos(photos, tmp_path, monkeypatch, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="`make setup-onnx` installs it")
    spec = save(tmp_path / "m.ckpt", "boq", BOQ, pca_dim=16)
    assert export(tmp_path / "m.ckpt", "onnx", tmp_path / "m.onnx", monkeypatch) == 0, capsys.readouterr().err
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


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_torch_alone_loads_every_aggregator_and_describes_any_number_of_photos(aggregator, tmp_path):
    spec = save(tmp_path / "m.ckpt", aggregator, OPTIONS.get(aggregator, {}))
    facts = export_torch(tmp_path / "m.ckpt", tmp_path / "m.pt2")
    metadata = {"vpr_spec": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=metadata).module()
    batch = torch.randint(0, 256, (3, 3, 48, 64), dtype=torch.uint8)
    found = program(batch).detach().numpy()
    assert found.shape == (3, facts["descriptor_dim"])
    np.testing.assert_allclose(found, vpr.load(tmp_path / "m.ckpt", "cpu").describe(batch), atol=1e-4)
    assert ModelSpec.from_dict(json.loads(metadata["vpr_spec"])) == spec


@pytest.mark.parametrize(("kind", "named"), [("onnx", "ONNX"), ("pt2", "a program of torch.export")])
def test_what_a_format_has_not_is_refused_with_the_reason_and_nothing_is_written(
    kind, named, checkpoint, tmp_path, monkeypatch, capsys
):
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="`make setup-onnx` installs it")
    monkeypatch.setattr(VPRModel, "describe", lambda self, features, token: features.flatten().unique())
    assert export(checkpoint, kind, tmp_path / f"m.{kind}", monkeypatch) == 1
    assert f"resnet18 with gem cannot be written as {named}: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
