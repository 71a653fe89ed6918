"""Stages as commands: what they refuse, and how they say it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from vpr.config.errors import run_stage

ROOT = Path(__file__).parents[2]
CATALOGUE = ("--catalogue", str(ROOT / "data" / "sources.yaml"))


@pytest.fixture
def workspace(tmp_path, monkeypatch, capfd):
    """A working directory with params.yaml, and a way to change it and run a stage."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "images"))

    class Workspace:
        folder = tmp_path
        params = content

        def stage(self, name: str, *arguments: str, fails: bool = False) -> str:
            (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
            monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments])
            with pytest.raises(SystemExit) as stop:
                run_stage(importlib.import_module(f"vpr.stages.{name}").main)
            out, err = capfd.readouterr()
            assert (stop.value.code != 0) == fails, out + err
            assert "Traceback" not in out + err
            return out + err

    return Workspace()


def test_a_stage_run_as_dvc_runs_it_ends_in_one_line(tmp_path):
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({**params, "agg": "Gem"}), encoding="utf-8")
    command = [sys.executable, "-m", "vpr.stages.check", "--ok", "params.ok", *CATALOGUE]
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("check: params.yaml: aggregators has no block 'Gem'; choose one of: avg, boq")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(agg="Gem"), "aggregators has no block 'Gem'; choose one of: avg, boq, convap"),
        (
            lambda p: p["aggregators"].update(Gem={}) or p.update(agg="Gem"),
            "params.yaml: unknown aggregator 'Gem'; choose one of: avg, boq, convap",
        ),
        (lambda p: p["losses"]["NTXentLoss"].update(tmp=1), "unknown options ['tmp']; choose from ['temperature']"),
        (
            lambda p: (
                p["miners"]["TripletMarginMiner"].update(type_of_triplets="semihrd")
                or p.update(miner="TripletMarginMiner")
            ),
            "type_of_triplets is 'semihrd'; choose one of: all, easy, hard, semihard",
        ),
        (
            lambda p: p["losses"]["FastAPLoss"].update(num_bins=0) or p.update(loss="FastAPLoss"),
            "fail with their options: ZeroDivisionError",
        ),
        (
            lambda p: p["backbones"]["resnet18"].update(layers_to_crop=[4]),
            "set them in datasets.synthetic.train.layers_to_crop",
        ),
        (lambda p: p["evaluate"].update(recal_at=[1]), "evaluate has unknown keys ['recal_at']"),
        (
            lambda p: p["datasets"]["synthetic"]["train"].update(layers_to_crop=[3]),
            "layers_to_crop is [3]; expected the last",
        ),
        (
            lambda p: (
                p.update(miner="AngularMiner", agg="convap"),
                p["aggregators"]["convap"].update(out_channels=1024),
                p["datasets"]["synthetic"]["train"].update(places_per_batch=100),
                p["train"].update(max_memory_gb=24.0),
            ),
            "GiB for 475,200 positive × 475,200 negative pairs, and the device has 24.0 GiB",
        ),
        (
            lambda p: p["train"].update(max_memory_gb=1e-6),
            "check: NTXentLoss does not fit: a batch of 16 places × 4 images",
        ),
        (
            lambda p: p["datasets"]["synthetic"]["train"].update(places_per_batch=801),
            "datasets.synthetic.train.places_per_batch is 801, but the dataset has 800 places; lower it",
        ),
    ],
)
def test_check_refuses_wrong_parameters_before_any_work(workspace, change, message):
    change(workspace.params)
    output = workspace.stage("check", "--ok", "params.ok", *CATALOGUE, fails=True)
    assert message in output
    assert not (workspace.folder / "params.ok").exists()


def test_check_says_what_makes_recalls_poor_or_too_good(workspace):
    assert "note:" not in workspace.stage("check", "--ok", "params.ok", *CATALOGUE)
    workspace.params["eval_sets"] = ["val"]
    workspace.params["datasets"]["synthetic"]["train"]["places_per_batch"] = 100
    output = workspace.stage("check", "--ok", "params.ok", *CATALOGUE)
    assert "note: val is the only reported set, and the best epoch is chosen on it too" in output
    assert "note: an epoch has 8 batches: 800 places, 100 in a batch" in output


def test_a_checkpoint_in_the_folder_that_training_empties_is_refused(workspace):
    models = workspace.folder / "models"
    models.mkdir()
    (models / "training.json").write_text("{}")
    (models / "best.ckpt").write_bytes(b"")
    workspace.params["train"]["checkpoint"] = "models/best.ckpt"
    output = workspace.stage("check", "--ok", "a", *CATALOGUE, fails=True)
    assert "copy the file elsewhere and use that path" in output


def test_check_leaves_the_same_file_for_all_valid_parameters(workspace):
    workspace.stage("check", "--ok", "a", *CATALOGUE)
    workspace.params["agg"] = "mixvpr"
    workspace.stage("check", "--ok", "b", *CATALOGUE)
    assert (workspace.folder / "a").read_bytes() == (workspace.folder / "b").read_bytes()


@pytest.fixture
def photos(tmp_path):
    """Own data with a missing file."""
    for k, name in enumerate("adq"):
        Image.new("RGB", (20, 10), (50 * k, 0, 0)).save(tmp_path / f"{name}.jpg")
    (tmp_path / "own.csv").write_text(
        "image,split,place_id\na.jpg,train,1\nd.jpg,s/database,1\nq.jpg,s/queries,1\ngone.jpg,s/queries,1\n"
    )
    return tmp_path / "own.csv"


VERIFY = ["--listing", "l.parquet", "--manifest", "m", "--problems", "p.csv", "--page", "d.html"]


def test_verify_fails_with_all_problems_or_leaves_them_out_and_counts_them(workspace, photos):
    workspace.params["dataset"] = "custom"
    workspace.params["datasets"]["custom"]["images"]["source"] = str(photos)
    workspace.params["eval_sets"] = ["s"]
    workspace.params["train"]["val_set"] = "s"
    workspace.stage("download", "--listing", "l.parquet", "--known-hashes", "k.json", "--root", "r.txt", *CATALOGUE)
    output = workspace.stage("verify", *VERIFY, "--metrics", "d.json", fails=True)
    assert "1 problems in the dataset, all listed in p.csv" in output
    assert "1 x error: the file is missing (query s gone.jpg)" in output
    assert "set verify.on_problem in params.yaml to skip" in output
    assert len(pd.read_csv(workspace.folder / "p.csv")) == 1
    assert not (workspace.folder / "m").exists()
    workspace.params["verify"]["on_problem"] = "skip"
    assert "left out 1 rows" in workspace.stage("verify", *VERIFY, "--metrics", "d.json")
    parts = [
        pd.read_parquet(workspace.folder / "m" / f"{name}.parquet") for name in ("train", "evaluation", "validation")
    ]
    assert [len(part) for part in parts] == [1, 2, 2]
    page = (workspace.folder / "d.html").read_text(encoding="utf-8")
    assert "the file is missing" in page
    assert "http:" not in page + page.replace("https:", "http:")  # it works offline
    assert page.count("<img") == 3  # images per place, contact sheets of training and of the set; no coordinates


def test_stages_without_their_input_say_what_to_run(workspace):
    assert "run `dvc repro verify` first" in workspace.stage(
        *("train", "--manifest", "m.parquet", "--validation-manifest", "v.parquet", "--models", "m"),
        *("--resized", "r.json", "--curve", "c.csv", "--validations", "v.csv"),
        fails=True,
    )
    assert "run `dvc repro train` first" in workspace.stage(
        "export", "--models", "m", "--manifest", "m.parquet", "--model", "model.ckpt", fails=True
    )
