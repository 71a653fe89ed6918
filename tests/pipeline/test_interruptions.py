"""Killed at a random moment, or on a full disk, a run ends as an undisturbed one; nothing that was fetched is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from chaos.run import Chaos, small_disk
from file_server import serve
from scratch_project import Project

ROOT = Path(__file__).parents[2]


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


@pytest.fixture(scope="module")
def chaos(project, warm, tmp_path_factory):
    """A copy of the project on a disk of its own; what is disturbed starts from Python itself."""
    disk = tmp_path_factory.mktemp("chaos") / "disk"
    with small_disk(disk) as is_mounted:
        copy = project.copy(disk / "project")
        disturbed = Chaos(copy, undisturbed_env=warm(Project.at(copy.folder)).env)
        disturbed.whole_s = 15.0
        yield disturbed, is_mounted


# A short form of `make chaos`.
@pytest.mark.parametrize(
    ("kind", "stage"),
    [("stage killed", "train"), ("DVC killed", "index"), ("disk full", "extract")],
)
def test_a_run_that_was_disturbed_ends_as_one_that_was_not(chaos, kind, stage):
    disturbed, has_own_disk = chaos
    if kind == "disk full" and not has_own_disk:
        pytest.skip("mounting a small disk needs the right to mount")
    disturbed.disturb(kind, stage, random.Random(kind))


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
    # Only requests that were under way when a process was killed are sent twice.
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
