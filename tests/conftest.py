"""Small data for all tests: drawn, never downloaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import hypothesis
import pandas as pd
import pytest

from vpr.datasets import synthetic
from vpr.datasets.manifest import Manifest
from vpr.params import SyntheticParams

ROOT = Path(__file__).parents[1]
# A slow machine is no failure.
hypothesis.settings.register_profile("calm", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("calm")
SHARED = ROOT.parent / "shared" / "data"

TINY_CITY = {
    "seed": 3,
    "width": 48,
    "height": 36,
    "train_cities": 2,
    "train_places": 8,
    "images_per_place": [3, 4],
    "blocks": 2,
    "database_spacing_m": 30.0,
    "database_headings": 2,
    "num_queries": 6,
    "variety": 0.4,
    "night": 0.1,
    "night_queries": 0.8,
    "query_heading_sd_deg": 8.0,
    "years": [2010, 2020],
}


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image folder of the test's own."""
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "images"))
    return tmp_path / "images"


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The tiny city's listing, its images on the disk; the root is absolute, whatever DATA_ROOT is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_ROOT", str(tmp_path_factory.mktemp("city")))
        listing = synthetic.obtain(SyntheticParams(**TINY_CITY))
        return Manifest(listing.name, str(listing.folder), listing.rows)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data beside the checkout, where it is there."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    return SHARED


TINY = [
    "datasets.synthetic.width=64",
    "datasets.synthetic.height=48",
    "datasets.synthetic.train_places=12",
    "datasets.synthetic.train_cities=1",
    "datasets.synthetic.blocks=2",
    "datasets.synthetic.database_spacing_m=20",
    "datasets.synthetic.database_headings=2",
    "datasets.synthetic.num_queries=8",
    "train.synthetic.image_size=[32,48]",
    "train.synthetic.places_per_batch=4",
    "train.synthetic.max_epochs=1",
    "train.synthetic.check_val_every_n_epochs=1",
    "train.synthetic.num_workers=0",
    "extract.num_workers=0",
    "eval_sets=[val]",
]


class Project:
    """A scratch copy of what git tracks, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        for file in files:
            if file.startswith(("tests/", "docs/", "metrics/")) or file == "dvc.lock" or not (ROOT / file).is_file():
                continue
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, folder / file)
        drop = ("DVC_", "MLFLOW_", "GIT_", "PYTHONPATH", "DATA_ROOT", "PYTHONDONTWRITEBYTECODE")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
        self.env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self.env['PATH']}"
        self.env |= {
            f"GIT_{who}_{what}": "smoke@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        self("git", "init", "--quiet", "--initial-branch=main")
        self.commit("the project")

    def __call__(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        return output

    def copy(self, folder: Path) -> Project:
        """The project as it is now, somewhere else."""
        other = object.__new__(Project)
        other.folder, other.env = folder, self.env
        shutil.copytree(self.folder, folder, symlinks=True)
        return other

    def commit(self, message: str) -> None:
        self("git", "add", "--all")
        self("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def recalls(self, name: str) -> dict[str, float]:
        return json.loads((self.folder / "metrics" / "recalls" / f"{name}.json").read_text(encoding="utf-8"))

    def stages_run(self, output: str) -> set[str]:
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}

    def runs(self) -> pd.DataFrame:
        """The MLflow runs of the scratch project's own store."""
        code = (
            "import mlflow, sys; mlflow.set_tracking_uri('sqlite:///mlruns/mlflow.db');"
            "mlflow.search_runs(experiment_names=['vpr']).to_json(sys.argv[1])"
        )
        self(sys.executable, "-c", code, "runs.json")
        runs = pd.read_json(self.folder / "runs.json")
        (self.folder / "runs.json").unlink()
        return runs


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def first_run(project) -> str:
    """From nothing to recalls."""
    output = project("dvc", "exp", "run", "--name", "first", *[part for value in TINY for part in ("-S", value)])
    project.commit("first run")
    return output
