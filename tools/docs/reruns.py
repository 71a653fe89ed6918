"""The tables of docs/pipeline.md: which stages rerun if a folder of code or a section of params.yaml changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tools.docs.components import table
from vpr.config.params import SECTIONS

FOLDERS = sorted(path.name for path in Path("src/vpr").glob("[a-z]*/") if path.name != "stages")
KEYS = (
    "dataset", "datasets.<name>.images", "datasets.<name>.train", "eval_sets", *SECTIONS, "backbone, agg, loss, miner",
    "data/sources.yaml",
)  # fmt: skip
BEGIN, END = "<!-- reruns: written by make docs -->", "<!-- end of reruns -->"


def stages_of_folder(stages: dict[str, Any], folder: str) -> list[str]:
    """Return the stages that depend on a folder of ``src/vpr``, or on a file in it."""
    wanted = f"src/vpr/{folder}"
    return [
        name
        for name, stage in stages.items()
        if any(dep == wanted or dep.startswith(f"{wanted}/") for dep in stage["deps"])
    ]


def stages_of_section(stages: dict[str, Any], section: str) -> list[str]:
    """Return the stages that read a section of ``params.yaml``, or a part of it."""
    section = section.replace("<name>", "${dataset}").split(",")[0]
    found = []
    for name, stage in stages.items():
        keys = [next(iter(key)) if isinstance(key, dict) else key for key in stage.get("params", [])]
        if any(key == section or key.startswith(f"{section}.") or section.startswith(f"{key}.") for key in keys):
            found.append(name)
    return found


def rerun_tables(pipeline: Path) -> str:
    """Return both tables.

    Args:
        pipeline: ``dvc.yaml``.
    """
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]

    def rows(names: Sequence[str], found: Any, prefix: str) -> list[list[str]]:
        return [[f"`{prefix}{name}`".replace(", ", "`, `"), in_words(found(stages, name))] for name in names]

    def in_words(rerun: list[str]) -> str:
        others = [stage for stage in stages if stage not in rerun]
        if len(others) < len(rerun):
            return f"all but {', '.join(others)}" if others else "all"
        return ", ".join(rerun) or "nothing"

    code = table(["an edit in", "reruns"], rows(FOLDERS, stages_of_folder, "src/vpr/"))
    values = table(["a change of", "reruns"], rows(KEYS, stages_of_section, ""))
    return f"{BEGIN}\n\n{code}\n\n{values}\n\n{END}"


def with_tables(page: str, pipeline: Path) -> str:
    """Return a page with the tables between their marks."""
    before, rest = page.split(BEGIN)
    return before + rerun_tables(pipeline) + rest.split(END)[1]
