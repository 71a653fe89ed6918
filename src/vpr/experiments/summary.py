"""Print the recalls of the last run, with the counts behind them, and where to look next."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tabulate import tabulate

from vpr.config.errors import exit_code
from vpr.config.params import COMPONENTS, load_choice, load_eval_sets
from vpr.sources.base import load_dataset

NEXT = """
data/report.html  all of it on one page: map, conditions, every query with its predictions
metrics/          the same numbers, and recall by condition, as files that git compares
data/model.ckpt   the model; vpr localize PHOTO says where a photo was taken
make ui           every run in MLflow, by a link that it prints; vpr compare shows them side by side
next              source .venv/bin/activate; dvc exp run -S agg=mixvpr"""


def recall_table(folder: Path, set_names: list[str]) -> str:
    """A row for each evaluation set, recalls in percent.

    Args:
        folder: of ``<set>.json``.
        set_names: the sets to show.
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
    dataset, options, _ = load_dataset()
    names = [load_choice(key).name for key in COMPONENTS]
    chosen = " + ".join(name for name in names if name != "none")
    print(f"\n{dataset.name}: {chosen}; exact search (FAISS IndexFlatL2); recalls in percent\n")
    names = load_eval_sets()
    print(recall_table(Path("metrics/recalls"), names))
    meaning = dataset.describe_sets(options, names)
    if meaning:
        print(f"\n{meaning}")
    print(NEXT)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("summary", print_summary, "interrupted"))
