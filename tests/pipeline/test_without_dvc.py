"""The pipeline outlives its runner: its stages, run in order without DVC, write the bytes of dvc.lock."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def filled(value: Any, params: dict[str, Any]) -> Any:
    """Fill in ``${a.b}`` as DVC does."""
    if isinstance(value, dict):
        return {key: filled(item, params) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, params) for item in value]
    if not isinstance(value, str):
        return value

    def of(key: str) -> Any:
        found: Any = params
        for part in key.split("."):
            found = found[part]
        return found

    whole = re.fullmatch(r"\$\{([^}]+)\}", value)
    return of(whole[1]) if whole else re.sub(r"\$\{([^}]+)\}", lambda match: str(of(match[1])), value)


def stages(pipeline: Path, params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the command of each stage, in order."""
    for name, stage in yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"].items():
        if "matrix" not in stage:
            yield name, filled(stage["cmd"], params)
            continue
        ((key, values),) = filled(stage["matrix"], params).items()
        for value in values:
            yield f"{name}@{value}", filled(stage["cmd"], params | {"item": {key: value}})


def md5(path: Path) -> str:
    """Return DVC's hash of a file or a folder."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listed = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def test_the_stages_in_order_write_what_dvc_wrote(project, first_run, warm, tmp_path):
    alone = warm(project.copy(tmp_path / "alone"))
    lock = yaml.safe_load((alone.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    outs = {out["path"]: out["md5"] for stage in lock.values() for out in stage.get("outs", [])}
    for path in outs:
        out = alone.folder / path
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    shutil.rmtree(alone.folder / ".dvc")
    params = yaml.safe_load((alone.folder / "params.yaml").read_text(encoding="utf-8"))
    ran = []
    for name, command in stages(alone.folder / "dvc.yaml", params):
        alone("sh", "-c", command)
        ran.append(name)
    assert sorted(ran) == sorted(lock)
    assert {path: md5(alone.folder / path) for path in outs} == outs
