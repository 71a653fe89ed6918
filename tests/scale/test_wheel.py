"""The wheel in an empty environment, outside the project: what a new user of the library has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scratch_project import ROOT
from small_model import save_small_model
from vpr.data.manifest import DATABASE

UV = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")


@pytest.mark.skipif(UV is None, reason="no uv")
def test_the_wheel_alone_describes_photos_and_finds_places(city, tmp_path):
    def run(*command: str | Path) -> str:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        done = subprocess.run(
            [str(part) for part in command], cwd=tmp_path, env=env | {"VPR_HOME": str(tmp_path / "home")},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    shutil.copytree(ROOT / "src", tmp_path / "source/src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "source")
    run(UV, "build", "--wheel", "--out-dir", "dist", "source")
    run(UV, "venv", "--python", f"{sys.version_info[0]}.{sys.version_info[1]}", "empty")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run(UV, "pip", "install", "--python", "empty/bin/python", wheel)
    installed = run(UV, "pip", "list", "--python", "empty/bin/python")
    assert not [name for name in ("mlflow", "dvc", "lightning", "ray") if f"\n{name} " in installed]
    save_small_model(tmp_path / "model.ckpt")
    image = city.part("val", DATABASE)["image"].iloc[0]
    shutil.copytree((city.folder / image).parent, tmp_path / "photos")
    (tmp_path / "try.py").write_text(
        "import vpr\n"
        "model = vpr.load('model.ckpt')\n"
        "index = vpr.Index.build('photos', model)\n"
        f"print(vpr.localize('photos/{Path(image).name}', model, index)[0]['predictions'][0]['image'])\n"
    )
    assert run("empty/bin/python", "try.py").strip() == Path(image).name
    vpr = tmp_path / "empty/bin/vpr"
    run(vpr, "index", "photos", "--out", "index", "--model", "model.ckpt")
    assert Path(image).name in run(
        vpr, "localize", f"photos/{Path(image).name}", "--index", "index", "--model", "model.ckpt"
    )
    assert "megaloc" in run(vpr, "models")
