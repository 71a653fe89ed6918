"""README.md: what ``make repro`` prints, from the committed metrics, and the names of the components."""

from __future__ import annotations

import re
from pathlib import Path

from vpr.config.params import Params
from vpr.experiments.print_recalls import recall_table
from vpr.model.aggregators import AGGREGATORS
from vpr.model.backbones import BACKBONES
from vpr.training.losses import LOSSES
from vpr.training.miners import MINERS

BEGIN, END = "<!-- recalls: written by make docs -->", "<!-- end of recalls -->"


def with_recalls(page: str, params_file: Path) -> str:
    """Return a page with the table of recalls between its marks."""
    table = recall_table(params_file.with_name("metrics") / "recalls", Params.read(params_file).eval_sets)
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n```\n{table}\n```\n\n{END}{rest.split(END)[1]}"


def with_names(page: str) -> str:
    """Return a page whose table of choices names every component."""
    cells = {
        "agg": ", ".join(AGGREGATORS),
        "loss": f"[{len(LOSSES)} losses](docs/components.md#losses), NTXentLoss by default",
        "miner": ", ".join(MINERS),
        "backbone": ", ".join(BACKBONES).replace("timm", "timm (any model of timm that gives feature maps)"),
    }
    for key, names in cells.items():
        page = re.sub(rf"^\| `{key}` \| .* \|$", f"| `{key}` | {names} |", page, flags=re.MULTILINE)
    return page
