"""The table of docs/pipeline.md with the outcome of disturbed runs, from benchmarks/chaos.json."""

from __future__ import annotations

import json
from pathlib import Path

from tools.docs.components import table

BEGIN, END = "<!-- chaos: written by make docs -->", "<!-- end of chaos -->"


def chaos_table(counts: Path) -> str:
    """Return the table of equal and different outcomes, by kind of disturbance.

    Args:
        counts: ``benchmarks/chaos.json``.
    """
    result = json.loads(counts.read_text(encoding="utf-8"))
    rows = [
        [kind, count["equal"], count["different"], count["dvc.lock from git"]]
        for kind, count in sorted(result["kinds"].items())
    ]
    heads = ["disturbance", "equal", "different", "of these after `git checkout dvc.lock`"]
    said = f"`make chaos RUNS={result['runs']}` with `--seed {result['seed']}`, on {result['machine']}:"
    return f"{BEGIN}\n\n{said}\n\n{table(heads, [[str(cell) for cell in row] for row in rows])}\n\n{END}"


def with_chaos(page: str, counts: Path) -> str:
    """Return a page with the table between its marks."""
    before, rest = page.split(BEGIN)
    return before + chaos_table(counts) + rest.split(END)[1]
