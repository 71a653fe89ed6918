"""Write ``run.js`` beside the report, with the time, machine and commit that the report's footer shows.

These facts differ between runs. They are not in the page, which DVC tracks, so a repeated run writes the same page.
"""

from __future__ import annotations

import json
from pathlib import Path

from vpr.data.checksums import file_sha256
from vpr.training.summary import TrainingLog

SHOWN = ("python", "torch", "lightning")


def write_run_facts(page: Path, model: Path, log: TrainingLog | None, run_id: str | None) -> Path:
    """Write the file beside a page, and return its path.

    Args:
        page: The report.
        model: Checkpoint of the evaluated model.
        log: Log of the training; ``None`` if it ran on another machine.
        run_id: Id of the MLflow run; ``None`` if it was not recorded.
    """
    parts = []
    if log is not None:
        commit = log.git_commit.partition("+")
        changes = f" ({'; '.join(log.changes)})" if log.changes else ""
        parts.append(f"commit {commit[0][:12]}{commit[1]}{commit[2]}{changes}, on {log.machine}")
        if log.seconds:
            parts.append(f"trained in {log.seconds:.0f} s at {log.images_per_s:.0f} images/s")
        parts.append(", ".join(f"{name} {log.versions[name]}" for name in SHOWN if name in log.versions))
    else:
        parts.append("trained on another machine")
    rerank_times = page.with_name("rerank_times.json")  # written by the rerank stage, if it ran on this machine
    if rerank_times.is_file():
        times = json.loads(rerank_times.read_text(encoding="utf-8"))
        parts.append("re-ranking " + ", ".join(f"{name} {seconds:.2f} s a query" for name, seconds in times.items()))
    if run_id is not None:
        parts.append(f"MLflow run {run_id}")
    content = {"model_sha256": file_sha256(model), "text": "; ".join(parts)}
    path = page.with_name("run.js")
    path.write_text(f"window.vprRun = {json.dumps(content)};\n", encoding="utf-8")
    return path
