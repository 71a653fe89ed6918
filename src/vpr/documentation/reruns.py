"""The table of docs/pipeline.md: which stages run again when a folder or a section of params.yaml changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vpr.documentation.components import table

FOLDERS = (
    "config", "data", "sources", "retrieval", "pages", "verification", "model", "training", "localization", "reranking",
    "report",
    "experiments", "documentation", "cli.py",
)  # fmt: skip
SECTIONS = (
    "dataset", "datasets.<name>.images", "datasets.<name>.train", "eval_sets", "verify", "resize", "train", "export",
    "extract", "evaluate", "index", "rerank", "backbone, agg, loss, miner", "data/sources.yaml",
)  # fmt: skip
BEGIN, END = "<!-- reruns: written by make docs -->", "<!-- end of reruns -->"


def stages_of_folder(stages: dict[str, Any], folder: str) -> list[str]:
    """Stages that depend on a folder of ``src/vpr``, or on a file in it."""
    wanted = f"src/vpr/{folder}"
    return [
        name
        for name, stage in stages.items()
        if any(dep == wanted or dep.startswith(f"{wanted}/") for dep in stage["deps"])
    ]


def stages_of_section(stages: dict[str, Any], section: str) -> list[str]:
    """Stages that read a section of ``params.yaml``, or a part of it."""
    section = section.replace("<name>", "${dataset}").split(",")[0]
    found = []
    for name, stage in stages.items():
        keys = [next(iter(key)) if isinstance(key, dict) else key for key in stage.get("params", [])]
        if any(key == section or key.startswith(f"{section}.") or section.startswith(f"{key}.") for key in keys):
            found.append(name)
    return found


def rerun_tables(pipeline: Path) -> str:
    """Both tables.

    Args:
        pipeline: ``dvc.yaml``.
    """
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]

    def rows(names: tuple[str, ...], found: Any, prefix: str) -> list[list[str]]:
        return [
            [
                f"`{prefix}{name}`".replace(", ", "`, `"),
                *("●" if stage in found(stages, name) else "" for stage in stages),
            ]
            for name in names
        ]

    code = table(["an edit in", *stages], rows(FOLDERS, stages_of_folder, "src/vpr/"))
    values = table(["a change of", *stages], rows(SECTIONS, stages_of_section, ""))
    return f"{BEGIN}\n\n{code}\n\n{values}\n\n{END}"


def with_tables(page: str, pipeline: Path) -> str:
    """A page with the tables put between their marks."""
    before, rest = page.split(BEGIN)
    return before + rerun_tables(pipeline) + rest.split(END)[1]
