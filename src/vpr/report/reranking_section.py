"""Build the report's section about re-ranking."""

from __future__ import annotations

import base64
import json
from pathlib import Path, PurePosixPath
from typing import Any

from vpr.report.sections import Drawing, RerankedSection

_SHOWN = (1, 5)  # recalls


def reranking_sections(reranked: Path, metrics: dict[str, Any]) -> tuple[list[RerankedSection], str]:
    """Return a section for each set, and a sentence about the method; both empty if nothing was re-ranked.

    Args:
        reranked: Folder of ``<set>/``, with drawings.
        metrics: Content of ``metrics/reranked.json``.
    """
    if not metrics:
        return [], ""
    sections = []
    for name, found in metrics["sets"].items():
        before, after = ([_percent(found.get(f"{when}_recall_at_{n}")) for n in _SHOWN] for when in ("before", "after"))
        recalls = list(zip([f"R@{n}" for n in _SHOWN], before, after, strict=True))
        chosen = (found["num_reranked"], found["num_queries"])
        changed = (found["fixed"], found["broken"]) if "fixed" in found else None
        sections.append(RerankedSection(name, chosen, recalls, changed, _drawings(reranked / name)))
    return sections, _in_words(metrics)


def _percent(recall: float | None) -> str:
    return "–" if recall is None else f"{100 * recall:.1f}"


def _in_words(metrics: dict[str, Any]) -> str:
    most = max(found["num_candidates"] for found in metrics["sets"].values())
    weight, gate = metrics["weight"], metrics["gate"]
    order = "most inliers first" if weight is None else f"sorted by similarity + {weight:g} × log(1 + inliers)"
    text = f"The first {most} predictions of a query are compared by {metrics['features']} features; {order}"
    if gate is None:
        return f"{text}."
    if not gate["below"]:
        learnt_on = gate["calibration"]["set"]
        return f"No query is re-ranked: on {learnt_on}, {metrics['features']} features gained nothing beyond chance."
    learnt = f"a threshold learnt on {gate['calibration']['num_queries']} queries of {gate['calibration']['set']}"
    return f"{text}. Only queries with a confidence below {100 * gate['below']:.0f} % are re-ranked, {learnt}."


def _drawings(folder: Path) -> list[Drawing]:
    drawings = []
    for number, drawn in enumerate(json.loads((folder / "drawn.json").read_text(encoding="utf-8"))):
        picture = base64.b64encode((folder / f"{number}.jpg").read_bytes()).decode("ascii")
        change = {(False, True): "now right", (True, False): "now wrong"}.get((drawn["was_right"], drawn["right"]), "")
        names = " in ".join(PurePosixPath(drawn[key]).name for key in ("query", "prediction"))
        text = f"{change + ', ' if change else ''}{drawn['inliers']} inliers: {names}"
        drawings.append(Drawing(picture, text))
    return drawings
