"""A scratch copy of the project, in which the tests run the real tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
TINY = [
    "datasets.synthetic.images.width=64",
    "datasets.synthetic.images.height=48",
    "datasets.synthetic.images.train_places=12",
    "datasets.synthetic.images.train_cities=1",
    "datasets.synthetic.images.blocks=2",
    "datasets.synthetic.images.database_spacing_m=20",
    "datasets.synthetic.images.database_headings=2",
    "datasets.synthetic.images.num_queries=8",
    "datasets.synthetic.train.image_size=[32,48]",
    "datasets.synthetic.train.places_per_batch=4",
    "datasets.synthetic.train.max_epochs=1",
    "datasets.synthetic.train.check_val_every_n_epochs=1",
    "datasets.synthetic.train.num_workers=0",
    "extract.num_workers=0",
    "eval_sets=[val]",
]


class Project:
    """A scratch copy of what git tracks, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self._use(folder)
        files = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        for file in files:
            if file.startswith(("tests/", "docs/", "metrics/")) or file == "dvc.lock" or not (ROOT / file).is_file():
                continue
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, folder / file)
        # numba reuses what it has compiled for the checkout.
        for compiled in (ROOT / "src").rglob("*.nb[ic]"):
            copied = folder / compiled.relative_to(ROOT)
            copied.parent.mkdir(exist_ok=True)
            shutil.copy2(compiled, copied)
        self("git", "init", "--quiet", "--initial-branch=main")
        self.commit("the project")

    @classmethod
    def at(cls, folder: Path) -> Project:
        """A project that is there already."""
        project = object.__new__(cls)
        project._use(folder)
        return project

    def _use(self, folder: Path) -> None:
        self.folder = folder
        drop = ("DVC_", "MLFLOW_", "GIT_", "PYTHONPATH", "DATA_ROOT", "PYTHONDONTWRITEBYTECODE")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
        self.env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self.env['PATH']}"
        self.env |= {
            f"GIT_{who}_{what}": "smoke@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }

    def __call__(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        return output

    def copy(self, folder: Path) -> Project:
        """The project as it is now, somewhere else."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project.at(folder)

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
        self("python", "-c", code, "runs.json")
        runs = pd.read_json(self.folder / "runs.json")
        (self.folder / "runs.json").unlink()
        return runs
