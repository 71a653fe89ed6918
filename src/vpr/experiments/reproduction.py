"""Published recalls, ours beside them, and how to run one: ``vpr reproduce mixvpr_resnet50_4096/pitts30k``."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpr.config.errors import UserError
from vpr.sources.catalogue import SourceParams

TABLE = Path("src/vpr/api/published.csv")
CHECKPOINTS = Path("data/published")
DATASET = "benchmarks"


@dataclass(frozen=True)
class Row:
    """A published recall.

    Attributes:
        model: as in docs/published-weights.md.
        set: a source of ``data/sources.yaml``, which says the protocol.
        recalls: at 1 and 5, in percent; ``None`` where none is given.
        source: where it stands.
        ours: the same, of our run; ``None`` where no one has run it.
        run: commit and machine of that.
    """

    model: str
    set: str
    recalls: tuple[float | None, float | None]
    source: str
    ours: tuple[float | None, float | None]
    run: str

    @property
    def name(self) -> str:
        """What the command calls it."""
        return f"{self.model}/{self.set}"


def read_published(path: Path = TABLE) -> list[Row]:
    """All rows.

    Raises:
        UserError: outside the project.
    """
    if not path.is_file():
        raise UserError(f"{path}: not there; run from the project's root")

    def number(text: str) -> float | None:
        return float(text) if text else None

    with path.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                row["model"],
                row["set"],
                (number(row["recall_at_1"]), number(row["recall_at_5"])),
                row["source"],
                (number(row["our_recall_at_1"]), number(row["our_recall_at_5"])),
                row["our_run"],
            )
            for row in csv.DictReader(file)
        ]


def imported_or_pulled(model: str) -> Path:
    """The checkpoint of a published model: what ``vpr import`` wrote, or else fetched."""
    from vpr.api.names import pull

    imported = CHECKPOINTS / f"{model}.ckpt"
    return imported if imported.is_file() else pull(model)


def overrides(
    name: str, rows: list[Row], sources: dict[str, SourceParams], find: Callable[[str], Path] = imported_or_pulled
) -> list[str]:
    """What ``dvc exp run -S`` needs to run a row.

    Args:
        name: ``<model>/<set>``.
        find: the checkpoint of a model, by its name.

    Raises:
        UserError: for an unknown row, a set without a source, or weights that can't be had; with what to do.
    """
    known = {row.name: row for row in rows}
    if name not in known:
        raise UserError(f"{name!r} is not in {TABLE}; it has {', '.join(sorted(known))}")
    row = known[name]
    if sources[row.set].url is None:
        raise UserError(
            f"data/sources.yaml: {row.set}.url is null: its owner has to be asked for it, see docs/datasets.md; set "
            "the url to file:// followed by the path of your copy"
        )
    return [f"dataset={DATASET}", f"train.checkpoint={find(row.model)}", f"eval_sets=[{row.set}]"]


def beside(row: Row, metrics: dict[str, Any]) -> str:
    """Our recalls and the published ones in a line, with what else ours were measured by."""
    parts = []
    for n, published in zip((1, 5), row.recalls, strict=True):
        ours = 100 * float(metrics[f"recall_at_{n}"])
        parts.append(f"R@{n} {ours:.1f}" + (f", published {published:.1f}" if published is not None else ""))
    counts = f"{metrics['num_queries']} queries, {metrics['num_database']} database images"
    how = (metrics.get("protocol") or metrics["positives"]) + (", centred" if metrics.get("centred") else "")
    return f"{row.name}: {'; '.join(parts)} ({counts}, {how})"
