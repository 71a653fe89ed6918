"""A photo has the same descriptor wherever it is asked for: library, index, server, command line and extract stage."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from starlette.testclient import TestClient

import vpr
from scratch_project import ROOT
from small_model import save_small_model
from vpr.commands import main as cli
from vpr.data.manifest import DATABASE, Manifest, write_manifest
from vpr.serving.answers_page import AnswersPage
from vpr.serving.localizer import Localizer
from vpr.serving.server import Limits, make_app


def extracted(manifest: Manifest, checkpoint: Path, folder: Path) -> np.ndarray:
    """The database's descriptors by the extract stage."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    sets = manifest.rows[manifest.rows["set"] == "val"].assign(num_bytes=1, sha256="x", width=1, height=1)
    write_manifest(Manifest(manifest.name, manifest.root, sets.reset_index(drop=True), {}), folder / "val.parquet")
    command = [sys.executable, "-m", "vpr.stages.extract", "--manifest", "val.parquet", "--model", str(checkpoint)]
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    subprocess.run(
        [*command, "--set", "val", "--out", "out"], cwd=folder, env=env, check=True, capture_output=True, text=True
    )
    return np.load(folder / "out" / "database.npy")


def test_a_photo_has_the_same_descriptor_everywhere(city, tmp_path, monkeypatch, capsys):
    checkpoint = save_small_model(tmp_path / "model.ckpt")
    model = vpr.load(checkpoint, "cpu")
    rows = city.part("val", DATABASE)
    paths = [city.folder / image for image in rows["image"]]
    expected = model.describe(paths, batch_size=1)

    assert np.allclose(extracted(city, checkpoint, tmp_path), expected, atol=1e-6), "the extract stage"

    folder = paths[0].parent
    index = vpr.Index.build(folder, model)
    order = [list(index.images["image"]).index(path.name) for path in paths]
    assert np.allclose(index.descriptors[order], expected, atol=1e-6), "an index"

    localizer = Localizer(model, index)
    client = TestClient(make_app(localizer, Limits(), AnswersPage.of("t", index, None)), "http://localhost")
    photos = [base64.b64encode(path.read_bytes()).decode() for path in paths[:3]]
    asked = {"photos": photos, "params": {"descriptor": True}}
    answers = client.post("/invocations", json=asked).json()["predictions"]
    assert np.allclose([answer["descriptor"] for answer in answers], expected[:3], atol=1e-6), "the server"

    command = ["vpr", "describe", str(folder), "--h5", f"{tmp_path}/d.h5", "--model", str(checkpoint)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    with h5py.File(tmp_path / "d.h5") as file:
        described = [file[path.name]["global_descriptor"][()] for path in paths]
    assert np.allclose(described, expected, atol=1e-6), "the command line"
