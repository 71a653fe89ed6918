"""Print the recalls of the last run, with counts, and where to look next: ``make repro`` ends with this."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tabulate import tabulate

from vpr.config.errors import exit_code
from vpr.config.params import COMPONENTS, Params
from vpr.sources.base import load_dataset

NEXT = """
data/report.html  the report: recalls, map, conditions, and every query with its predictions
metrics/          the same numbers, and recall by condition, as files to compare with git
data/model.ckpt   the model; vpr localize PHOTO prints where a photo was taken
make ui           every run in MLflow; vpr compare shows them side by side
next              source .venv/bin/activate; dvc exp run -S agg=mixvpr"""


def recall_table(folder: Path, set_names: list[str]) -> str:
    """Return a table with a row for each evaluation set, recalls in percent.

    Args:
        folder: Folder of ``<set>.json``.
        set_names: Names of the sets.
    """
    rows = []
    for name in set_names:
        metrics = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        row: dict[str, object] = {
            "set": name,
            "queries": metrics["num_queries"],
            "database": metrics["num_database"],
            "positives": metrics["positives"],
            "image": f"{metrics['image_height_px']}x{metrics['image_width_px']}",
            "dim": f"{metrics['descriptor_dim']}" + (", centred" if metrics.get("centred") else ""),
        }
        recalls = {k: v for k, v in metrics.items() if k.startswith("recall_at_")}
        row |= {k.replace("recall_at_", "R@"): f"{100 * v:.1f}" for k, v in recalls.items()}
        row["median error"] = f"{metrics['median_error_m']:.0f} m" if "median_error_m" in metrics else ""
        rows.append(row)
    return tabulate(rows, headers="keys", disable_numparse=True)


def print_summary() -> int:
    """Print the table, the meaning of the sets' names, and the next steps."""
    params = Params.read()
    dataset, options, _ = load_dataset(params)
    names = [params.choice(key).name for key in COMPONENTS]
    chosen = " + ".join(name for name in names if name != "none")
    print(f"\n{dataset.name}: {chosen}; exact search (FAISS IndexFlatL2); recalls in percent\n")
    names = params.eval_sets
    print(recall_table(Path("metrics/recalls"), names))
    meaning = dataset.describe_sets(options, names)
    if meaning:
        print(f"\n{meaning}")
    print(NEXT)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("summary", print_summary, "interrupted"))
