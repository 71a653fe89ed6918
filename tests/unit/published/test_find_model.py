"""Models by name: what is known of each, and how one is fetched."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision
from tools.docs import model_names

import vpr
from file_server import serve
from scratch_project import ROOT
from vpr.commands import main as cli
from vpr.published import find_model as names
from vpr.published.table import PUBLISHED
from vpr.sources.download.addresses import check_url


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_model_says_what_it_is(name):
    facts = names.facts(name)
    check_url("here", facts["weights"])
    assert facts["source"].startswith("https://github.com/")
    assert facts["licence"]
    assert facts["trained_on"]
    assert facts["descriptor_dim"] >= 32
    for row in names.published_recalls(name):
        assert 0 < float(row["recall_at_1"] or 1) <= 100


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VPR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def weights() -> bytes:
    """Random weights of CosPlace with ResNet-18 and 32 numbers, under its authors' names."""
    import io

    torch.manual_seed(0)
    network = torch.nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-2])
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    linear = torch.nn.Linear(512, 32)
    state |= {
        "aggregation.1.p": torch.ones(1) * 3,
        "aggregation.3.weight": linear.weight,
        "aggregation.3.bias": linear.bias,
    }
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def test_a_model_is_fetched_once_and_loads_by_its_name(home, monkeypatch, capsys):
    name = "cosplace_resnet18_32"
    with serve() as files:
        files.content["/w.pth"] = weights()
        monkeypatch.setattr("sys.argv", ["vpr", "models", "pull", name, "--mirror", f"{files.url}/w.pth"])
        for _ in range(2):
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert stop.value.code == 0
        assert len([path for _, path, _ in files.asked if path == "/w.pth"]) == 1
    printed = capsys.readouterr()
    assert "no published hash; recorded" in printed.err
    assert printed.out == 2 * f"{names.pulled(name)}\n", "for $(vpr models pull ...)"
    assert (home / "known_hashes.json").is_file()
    model = vpr.load(name, "cpu")
    assert model.descriptor_dim == 32
    assert model.image_size == (512, 512)
    assert names.facts(name)["checkpoint"] == str(home / "models" / f"{name}.ckpt")


def test_a_file_that_changed_at_its_source_is_refused(home):
    name = "cosplace_resnet18_32"
    with serve() as files:
        files.content["/w.pth"] = weights()
        checkpoint = names.pull(name, f"{files.url}/w.pth")
        checkpoint.unlink()
        (home / "downloads" / name / "w.pth").unlink()
        files.content["/w.pth"] = weights() + b"more"
        with pytest.raises(vpr.UserError, match=rf"model {name}\.url: .* but the first download had"):
            names.pull(name, f"{files.url}/w.pth")
    assert not checkpoint.exists()


def test_the_page_is_what_the_code_says():
    page = (ROOT / "docs" / "published-weights.md").read_text(encoding="utf-8")
    assert page == model_names.page(), "run `make docs`"


def test_the_list_and_what_is_known_of_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def printed(*command: str) -> str:
        monkeypatch.setattr("sys.argv", ["vpr", "models", *command])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        return f"{stop.value.code} {shown.out}{shown.err}"

    listed = printed()
    assert all(re.search(rf"^{name} ", listed, re.MULTILINE) for name in PUBLISHED)
    info = printed("info", "mixvpr_resnet50_4096")
    assert "pitts30k: R@1 91.6" in info
    assert "not fetched" in info
    assert "did you mean" in printed("pull", "mixvpr_resnet50_409")
    assert printed("pull").startswith("1 vpr models: name a model")
