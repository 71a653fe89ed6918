"""Trainings by several processes of which one is killed, and one by three."""

from __future__ import annotations

import json
import math
import random
import re
import signal
import subprocess
import time
from contextlib import suppress

import pandas as pd
import psutil
import pytest
import torch

from ranks_training import CASES, STEPS, configuration_of, greatest_difference, trained_by
from scratch_project import TINY, Project
from vpr.training.build import build_model

EPOCHS = 120
VALIDATE = "datasets.synthetic.train.check_val_every_n_epochs=40"
SETTINGS = [*TINY, "train.images_per_place=2", f"datasets.synthetic.train.max_epochs={EPOCHS}", VALIDATE]


def ranks_of(dvc: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    """The processes of the train stage, by their local rank."""
    found = {}
    with suppress(psutil.Error):
        for process in psutil.Process(dvc.pid).children(recursive=True):
            with suppress(psutil.Error):
                if "vpr.stages.train" in process.cmdline() and "LOCAL_RANK" in process.environ():
                    found[process.environ()["LOCAL_RANK"]] = process
                elif process.cmdline()[1:3] == ["-m", "vpr.stages.train"]:
                    found["first"] = process
    return found


@pytest.fixture
def project(tmp_path) -> Project:
    """A tiny project up to its training, which two processes will share."""
    project = Project(tmp_path)
    overrides = [part for setting in [*SETTINGS, "train.devices=2"] for part in ("-S", setting)]
    project("dvc", "exp", "run", *overrides, "sets", "resize")
    return project


def killed_once(project: Project, rank: str, after_s: float) -> str:
    """Run the training until an epoch was finished and a while longer, and kill one of its processes.

    Returns:
        What it printed; all its processes have ended.
    """
    with subprocess.Popen(
        ["dvc", "repro", "train"], cwd=project.folder, env=project.env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as dvc:  # fmt: skip
        deadline = time.monotonic() + 120
        while not ({"first", "1"} <= ranks_of(dvc).keys() and list(project.folder.glob("data/scratch/*/resume.ckpt"))):
            assert dvc.poll() is None, "it ended before an epoch did"
            assert time.monotonic() < deadline, "no epoch was finished"
            time.sleep(0.1)
        ranks = ranks_of(dvc)
        time.sleep(after_s)
        ranks[rank].send_signal(signal.SIGKILL)
        began = time.monotonic()
        output, _ = dvc.communicate(timeout=60)
        assert dvc.returncode != 0
        alive = psutil.wait_procs(ranks.values(), timeout=60 - (time.monotonic() - began))[1]
        assert not alive
    return output


def test_a_rank_that_dies_ends_the_others_and_one_device_goes_on(project):
    output = killed_once(project, "1", 0.5)
    assert "another process of this work has ended" in output
    assert "this is a bug" not in output
    params = project.folder / "params.yaml"
    params.write_text(re.sub(r"(?m)^  devices: 2\b", "  devices: 1", params.read_text()))
    project("dvc", "repro", "train")
    curve = pd.read_csv(project.folder / "metrics" / "training.csv")
    assert curve["epoch"].max() == EPOCHS
    assert curve["step"].is_unique
    assert curve["step"].is_monotonic_increasing
    assert curve["step"].min() <= 10, "the rows from before the interruption are there"
    assert not list(project.folder.glob("data/scratch/train-*"))


def test_twenty_kills_change_no_weight(project, tmp_path):
    undisturbed = project.copy(tmp_path / "undisturbed")
    undisturbed("dvc", "repro", "train")
    rng = random.Random(1)
    for _ in range(20):
        killed_once(project, rng.choice(["first", "1"]), rng.uniform(0, 1))
    project("dvc", "repro", "train")
    for name in ("best", "last"):
        file = f"data/models/{name}.ckpt"
        assert (project.folder / file).read_bytes() == (undisturbed.folder / file).read_bytes()


def test_three_processes_move_the_weights_as_one_does_with_the_whole_batch(city, tmp_path):
    alone, together = trained_by(1, city, tmp_path), trained_by(3, city, tmp_path)
    for case in CASES:
        assert greatest_difference(alone[case], together[case]) <= 1e-5, case
    assert not torch.equal(alone["pairs"]["backbone.stem.0.weight"], alone["triplets"]["backbone.stem.0.weight"])


def test_ranks_send_descriptors_labels_statistics_and_gradients_and_no_images(city, tmp_path, monkeypatch):
    monkeypatch.setenv("PROFILE", "1")
    trained_by(2, city, tmp_path, ["pairs"])
    sent = json.loads((tmp_path / "ranks-2" / "pairs.json").read_text(encoding="utf-8"))
    model = build_model(configuration_of("pairs", 2), None)
    numbers_of_a_norm = {m.num_features for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    in_every_step = {(row["by"], *row["shape"]): row["times"] / STEPS for row in sent if row["times"] >= STEPS}
    own = configuration_of("pairs", 2).settings
    of_a_rank = own.places_per_batch * own.images_per_place // 2
    num_norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    assert in_every_step == {
        ("gloo:all_gather", of_a_rank, model.descriptor_dim): 1,
        ("gloo:all_gather", of_a_rank): 1,
        ("gloo:all_reduce", *numbers_of_a_norm): 4 * num_norms,  # two sums, forwards and backwards
        ("gloo:all_reduce", sum(p.numel() for p in model.parameters())): 1,
    }
    rest = sum(math.prod(row["shape"]) * row["times"] for row in sent if row["times"] < STEPS)
    assert rest < 3 * math.prod(own.image_size), "the rest, over all steps, is less than one image"
