"""Trainings by several processes of which one is killed, and one by three."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from contextlib import suppress

import pandas as pd
import psutil
import pytest

from ranks_training import CASES, greatest_difference, trained_by
from scratch_project import TINY, Project

EPOCHS = 30
SETTINGS = [*TINY, "train.images_per_place=2", f"datasets.synthetic.train.max_epochs={EPOCHS}"]


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


@pytest.mark.parametrize("killed", ["first", "1"])
def test_a_rank_that_dies_ends_the_others_and_one_device_goes_on(project, killed):
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
        ranks[killed].send_signal(signal.SIGKILL)
        began = time.monotonic()
        output, _ = dvc.communicate(timeout=60)
        assert dvc.returncode != 0
        gone, alive = psutil.wait_procs(ranks.values(), timeout=60 - (time.monotonic() - began))
        assert not alive
    if killed == "1":
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


def test_three_processes_move_the_weights_as_one_does_with_the_whole_batch(city, tmp_path):
    alone, together = trained_by(1, city, tmp_path), trained_by(3, city, tmp_path)
    for case in CASES:
        assert greatest_difference(alone[case], together[case]) <= 1e-5, case
