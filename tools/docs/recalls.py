"""The recalls in README.md: what ``make repro`` prints, from the committed metrics."""

from __future__ import annotations

from pathlib import Path

from vpr.config.params import Params
from vpr.experiments.print_recalls import recall_table

BEGIN, END = "<!-- recalls: written by make docs -->", "<!-- end of recalls -->"


def with_recalls(page: str, params_file: Path) -> str:
    """Return a page with the table of recalls between its marks."""
    table = recall_table(params_file.with_name("metrics") / "recalls", Params.read(params_file).eval_sets)
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n```\n{table}\n```\n\n{END}{rest.split(END)[1]}"
