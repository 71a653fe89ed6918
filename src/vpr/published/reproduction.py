"""Published recalls, and how to reproduce them: ``vpr reproduce mixvpr_resnet50_4096/pitts30k``."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from vpr.config.did_you_mean import did_you_mean
from vpr.config.errors import UserError
from vpr.published.find_model import pull
from vpr.sources.catalogue import SourceParams

DATASET = "benchmarks"


@dataclass(frozen=True)
class PublishedRecall:
    """A published recall.

    Attributes:
        model: Name of the model, as in docs/published-weights.md.
        set: Source in ``data/sources.yaml``, which also states the protocol.
        recalls: Recall@1 and recall@5 in percent; ``None`` if the source does not state it.
        source: Page that states the recalls.
    """

    model: str
    set: str
    recalls: tuple[float | None, float | None]
    source: str

    @property
    def name(self) -> str:
        """Name of the row in the command ``vpr reproduce``."""
        return f"{self.model}/{self.set}"


def read_published() -> list[PublishedRecall]:
    """Read all rows of ``recalls.csv``."""

    def number(text: str) -> float | None:
        return float(text) if text else None

    with files("vpr.published").joinpath("recalls.csv").open(encoding="utf-8") as file:
        return [
            PublishedRecall(
                row["model"], row["set"], (number(row["recall_at_1"]), number(row["recall_at_5"])), row["source"]
            )
            for row in csv.DictReader(file)
        ]


def overrides(
    name: str,
    rows: list[PublishedRecall],
    sources: dict[str, SourceParams],
    find: Callable[[str], Path] = pull,
) -> list[str]:
    """Return the settings with which ``dvc exp run -S`` reproduces a row.

    Args:
        name: Row as ``<model>/<set>``.
        rows: All published recalls.
        sources: The published sets.
        find: Function that returns the checkpoint of a model by its name.

    Raises:
        UserError: for an unknown row, a set without an address, or weights that cannot be fetched.
    """
    known = {row.name: row for row in rows}
    if name not in known:
        raise UserError(f"{name!r} is not a published recall{did_you_mean(name, known)}; `vpr reproduce` lists all")
    row = known[name]
    if sources[row.set].url is None:
        raise UserError(
            f"data/sources.yaml: {row.set}.url is null: get the images as docs/datasets.md says, and set the url to "
            "file:// followed by the path of your copy"
        )
    return [f"dataset={DATASET}", f"train.checkpoint={find(row.model)}", f"eval_sets=[{row.set}]"]


def beside(row: PublishedRecall, metrics: dict[str, Any]) -> str:
    """Return our recalls and the published ones on one line, with the counts and the protocol of ours."""
    parts = []
    for n, published in zip((1, 5), row.recalls, strict=True):
        ours = 100 * float(metrics[f"recall_at_{n}"])
        parts.append(f"R@{n} {ours:.1f}" + (f", published {published:.1f}" if published is not None else ""))
    counts = f"{metrics['num_queries']} queries, {metrics['num_database']} database images"
    how = (metrics.get("protocol") or metrics["positives"]) + (", centred" if metrics.get("centred") else "")
    return f"{row.name}: {'; '.join(parts)} ({counts}, {how})"
