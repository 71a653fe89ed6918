"""Two runs on one page: which queries does one find and the other not?

Rows and images are those of the workspace; predictions and recalls those that the runs left in MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vpr.comparison import Run, distinct_names
from vpr.datasets.manifest import read_manifest
from vpr.params import load_evaluate
from vpr.report.data import THUMB_BYTES, SetInput, Thumbnails, add_other, set_data
from vpr.report.page import render
from vpr.tracking import run_predictions, run_recalls

DESCRIPTORS = Path("data/descriptors")


def write_side_by_side(first: Run, second: Run, sets: Sequence[str], page: Path) -> None:
    """Write the page.

    Raises:
        ValueError: if the workspace holds other queries than the runs were evaluated on.
    """
    thumbnails = Thumbnails(THUMB_BYTES // len(sets))
    shown = []
    for name in sets:
        predictions, other = (run_predictions(run, name) for run in (first, second))
        folder = DESCRIPTORS / name
        database, queries = (read_manifest(folder / f"{part}.parquet") for part in ("database", "queries"))
        for run, table in ((first, predictions), (second, other)):
            unknown = set(table["prediction"]) - set(database.rows["image"])
            if unknown or set(table["query"]) != set(queries.rows["image"]):
                raise ValueError(f"{run.name} was evaluated on other images than {folder} holds; run its dataset first")
        ordered = predictions.set_index("query").loc[queries.rows["image"].drop_duplicates()].reset_index()
        given = SetInput(database, queries, ordered, run_recalls(first, name))
        data = set_data(name, given, load_evaluate().positive_radius_m, None, thumbnails)
        add_other(data, given, other, run_recalls(second, name), thumbnails)
        shown.append(data)
    keys = sorted(first.params.keys() | second.params.keys())
    differing = [k for k in keys if first.params.get(k) != second.params.get(k)]
    rows = [(k, f"{first.params.get(k, 'none')} | {second.params.get(k, 'none')}") for k in differing]
    told = f"{first.name} ({first.id[:8]}) and {second.name} ({second.id[:8]}); the configuration shows what differs"
    names = list(distinct_names(first, second))
    training: dict[str, list[list[float]]] = {"loss": [], "validation": [], "informative": []}
    html = render(f"{names[0]} beside {names[1]}", told, rows, names, shown, thumbnails.encoded, training)
    page.write_text(html, encoding="utf-8")
