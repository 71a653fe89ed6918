"""The examples of docs/library.md and of the README, run one after the other, as they stand."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from PIL import ExifTags, Image

from scratch_project import ROOT
from small_model import save_small_model


def blocks(page: str) -> list[str]:
    """Python of a page, but for what it marks as not for a test."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(city, tmp_path, monkeypatch):
    """A model, and photos with positions in their EXIF tags."""
    save_small_model(tmp_path / "model.ckpt")
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(city.rows["image"].iloc[:4], 1):
        with Image.open(city.folder / image) as photo:
            exif = photo.getexif()
            exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (45.0, number, 0.0), 3: "E", 4: (9.0, 0.0, 0.0)}
            photo.convert("RGB").save(tmp_path / "photos" / f"{number}.jpg", exif=exif, quality=95)
    shutil.copy(tmp_path / "photos" / "3.jpg", tmp_path / "query.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VPR_HOME", str(tmp_path / "home"))
    return tmp_path


def test_the_examples_of_the_page_on_the_library_run(folder, capsys):
    found = blocks("docs/library.md")
    assert len(found) >= 4
    known: dict[str, object] = {}
    for block in found:
        exec(block, known)
    printed = capsys.readouterr().out
    assert "45.05" in printed
    assert "3.jpg" in printed


def test_the_example_of_the_readme_runs(folder, capsys):
    (example,) = blocks("README.md")
    exec(example.replace("data/model.ckpt", "model.ckpt"), {})
    assert "45.05" in capsys.readouterr().out


def test_torch_hub_gives_the_network(folder):
    network = torch.hub.load(str(ROOT), "vpr", "model.ckpt", source="local")
    with torch.inference_mode():
        found = network(torch.zeros(1, 3, 24, 32, dtype=torch.uint8))
    assert found.shape == (1, network.descriptor_dim)
    assert found.norm().item() == pytest.approx(1, abs=1e-5)
