"""Killed at a random moment, every stage runs again to the same result, and nothing that was fetched is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from file_server import serve

ROOT = Path(__file__).parents[2]
# The stages that keep something outside their outputs, which DVC removes before it runs a stage: images, what is known
# of files, a training's scratch folder and its run, the MLflow store.
STAGES = ["download", "verify", "train", "record"]
KILLS = 2


def run_and_kill(command: list[str], after_s: float, **options) -> bool:
    """Run a command and kill it with all its children; whether it was still running."""
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        process.wait(after_s)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def results(folder: Path) -> dict[str, str]:
    """Hashes of what the stages left, by path."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    outs = [out for stage in lock["stages"].values() for out in stage.get("outs", [])]
    return {out["path"]: out["md5"] for out in outs}


@pytest.fixture(scope="module")
def disturbed(project, first_run, tmp_path_factory):
    """A copy of the project, so that what is killed here is missed nowhere else."""
    return project.copy(tmp_path_factory.mktemp("disturbed") / "project")


def run_stage(project, stage: str, kill_after_s: float | None) -> float:
    """Force a stage through DVC, and kill its process some time after it began; how long that lived.

    DVC itself is left alive: it writes dvc.lock in place, and a kill at that moment would test DVC.
    """
    name = stage.partition("@")[0]
    command = ["dvc", "repro", "--force", "--single-item", stage]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(command, cwd=project.folder, env=project.env, **quiet)
    lived, began = 0.0, None
    while running.poll() is None:
        found = [
            p for p in psutil.Process(running.pid).children(recursive=True) if f"vpr.stages.{name}" in arguments(p)
        ]
        if found and began is None:
            began = time.monotonic()
        if found and began is not None:
            lived = time.monotonic() - began
            if kill_after_s is not None and lived >= kill_after_s:
                for process in found:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                kill_after_s = None
        time.sleep(0.01)
    return lived


def arguments(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_was_killed_runs_again_to_the_same_result(disturbed, stage):
    before = results(disturbed.folder)
    assert len(before) > 20
    runs = len(disturbed.runs())
    chance = random.Random(stage)
    whole_s = run_stage(disturbed, stage, None)
    assert whole_s > 0
    kills = 0
    for _ in range(4 * KILLS):
        after_s = chance.uniform(0.05, 0.9) * whole_s
        kills += run_stage(disturbed, stage, after_s) >= after_s  # the load changes: it may have ended before
        if kills == KILLS:
            break
    assert kills == KILLS
    disturbed("dvc", "repro")
    assert results(disturbed.folder) == before
    assert not list((disturbed.folder / "data").glob("scratch/train-*/*"))
    assert len(disturbed.runs()) == runs


def test_a_stage_ends_when_dvc_is_killed_and_is_not_in_the_way_of_the_next(disturbed):
    before, runs = results(disturbed.folder), len(disturbed.runs())
    command = ["dvc", "repro", "--force", "--single-item", "train"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dvc = psutil.Popen(command, cwd=disturbed.folder, env=disturbed.env, **quiet)
    stage = None
    while stage is None:
        stage = next((p for p in dvc.children(recursive=True) if "vpr.stages.train" in arguments(p)), None)
        time.sleep(0.01)
    while not list((disturbed.folder / "data").glob("scratch/train-*")):
        assert stage.is_running()
        time.sleep(0.01)
    dvc.kill()
    dvc.wait()
    stage.wait(timeout=20)
    disturbed("dvc", "repro")
    assert results(disturbed.folder) == before
    assert len(disturbed.runs()) == runs


CONTENT = {f"train/{k:04d}.jpg": bytes([k % 256]) * 4096 for k in range(1000)}


@pytest.fixture
def archive(tmp_path) -> bytes:
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as file:
        for name, data in CONTENT.items():
            file.writestr(name, data)
    return (tmp_path / "made.zip").read_bytes()


def test_a_download_killed_again_and_again_arrives_whole(tmp_path, archive, data_root):
    code = (
        "import sys; from pathlib import Path; from vpr.sources.download import fetch;"
        "print(fetch('sources.set', sys.argv[1], None, Path(sys.argv[2])).folder)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with serve() as server:
        server.content["/set.zip"] = archive
        server.bytes_per_s = 1_000_000
        command = [sys.executable, "-c", code, f"{server.url}/set.zip", str(tmp_path / "known.json")]
        chance = random.Random(3)
        kills = 0
        for _ in range(3):
            kills += run_and_kill(command, chance.uniform(1.2, 2.4), env=env)
        server.bytes_per_s = None
        folder = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    assert kills >= 2
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*.jpg")} == CONTENT
    assert any(asked for asked in server.ranges())
    # What was on its way when a process was killed is sent twice, no more.
    assert server.sent < len(archive) + kills * 400_000


def test_an_unpacking_killed_at_a_random_moment_ends_whole(tmp_path, archive, data_root):
    (tmp_path / "set.zip").write_bytes(archive)
    code = (
        "import sys, time; from pathlib import Path; from vpr.sources import unpack;"
        "write = unpack._write;"
        "unpack._write = lambda *a: (time.sleep(0.001), write(*a));"
        "unpack.unpack(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, str(tmp_path / "set.zip"), str(tmp_path / "out")]
    assert run_and_kill(command, random.Random(5).uniform(0.5, 1.0), env=env)
    written = len(list(tmp_path.rglob("*.jpg")))
    assert 0 < written < len(CONTENT), "killed too early or too late to prove anything"
    subprocess.run(command, env=env, check=True, capture_output=True)
    out = tmp_path / "out"
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.jpg")} == CONTENT
