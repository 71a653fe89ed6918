"""Small data for all tests: drawn, never downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

# Several test processes share the cores, and threads that wait for each other would take them all; set before torch is
# imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch
from filelock import FileLock

import warm_python
from scratch_project import ROOT, TINY, Project
from tiny_city import TINY_CITY
from vpr.data.manifest import Manifest
from vpr.sources.synthetic import SyntheticParams
from vpr.sources.synthetic.photos import draw

# A slow machine is no failure.
hypothesis.settings.register_profile("calm", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("calm")
SHARED = ROOT.parent / "shared" / "data"


# The files that take longest, so that no test process is left with one of them at the end.
LONGEST = [
    "test_experiments.py", "test_recipes.py", "test_interruptions.py", "test_gsv_xs.py", "test_sweep.py",
    "test_second_clone.py", "test_fuzz.py", "test_serving.py",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image folder of the test's own."""
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "images"))
    return tmp_path / "images"


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A disk of 2 MiB for the images, and a way to make it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=False, text=True)
    if done.returncode != 0:
        pytest.skip("mounting a small disk needs the right to mount")
    monkeypatch.setenv("DATA_ROOT", str(disk))
    yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The tiny city's listing, its images on the disk; the root is absolute, whatever DATA_ROOT is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_ROOT", str(tmp_path_factory.mktemp("city")))
        listing = draw(SyntheticParams(**TINY_CITY))
        return Manifest(listing.name, str(listing.folder), listing.rows)


@pytest.fixture(scope="module")
def browser():
    """Chromium, where it is installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data beside the checkout, where it is there."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    return SHARED


@pytest.fixture(scope="session")
def finished(tmp_path_factory, warm) -> tuple[Project, str]:
    """A project that has run once, from nothing to recalls, and what that printed; all test processes share it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, printed = shared / "finished", shared / "finished.txt"
    with FileLock(f"{folder}.lock"):
        if printed.is_file():
            return Project.at(folder), printed.read_text(encoding="utf-8")
        project = warm(Project(folder))
        output = project("dvc", "exp", "run", "--name", "first", *[part for value in TINY for part in ("-S", value)])
        project.commit("first run")
        printed.write_text(output, encoding="utf-8")
        return project, output


@pytest.fixture(scope="session")
def first_run(finished) -> str:
    """The output of the first run."""
    return finished[1]


@pytest.fixture(scope="session")
def warm(tmp_path_factory) -> Callable[[Project], Project]:
    """Let a project's stages start from a Python that has imported the libraries; all test processes share it."""
    shared, owner = tmp_path_factory.getbasetemp(), os.getpid()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared, owner = shared.parent, os.getppid()
    folder = shared / "warm"

    def warm(project: Project) -> Project:
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                warm_python.start(folder, owner, project.env)
        project.env["PATH"] = f"{folder}{os.pathsep}{project.env['PATH']}"
        return project

    return warm


@pytest.fixture(scope="module")
def project(finished, warm, tmp_path_factory) -> Project:
    """A copy of the finished project for the tests of one file."""
    return warm(finished[0].copy(tmp_path_factory.mktemp("copy") / "project"))


@pytest.fixture
def quick_weights(monkeypatch):
    """Fill weights with pieces of one random block, which is faster than to draw them.

    For tests that replace the weights, or that take any.
    """
    block = torch.rand(1 << 20) * 0.1 - 0.05

    def fill(tensor, *_, **__):
        # A layer initialises its weights, and then the whole network does again.
        if tensor.is_meta or hasattr(tensor, "is_filled"):
            return tensor
        shifted = block.roll(int(torch.randint(len(block), ())))
        for part in tensor.data.view(-1).split(len(block)):
            part.copy_(shifted[: len(part)])
        tensor.is_filled = True
        return tensor

    for rule in ("kaiming_uniform_", "kaiming_normal_", "trunc_normal_", "normal_", "xavier_uniform_"):
        monkeypatch.setattr(torch.nn.init, rule, fill)
