"""``run.js``: what no two runs share, beside the page, which shows it in its foot.

DVC tracks the page, so time, machine and commit are not in it: a run that is repeated leaves an equal page.
"""

from __future__ import annotations

import json
from pathlib import Path

from vpr.data.checksums import file_sha256
from vpr.training.summary import TrainingLog

SHOWN = ("python", "torch", "lightning")


def write_run_facts(page: Path, model: Path, log: TrainingLog | None, run_id: str | None) -> Path:
    """Write the file beside a page.

    Args:
        model: checkpoint that the page is about.
        log: of the training; ``None`` where that was on another machine.
        run_id: of the MLflow run; ``None`` where it was not recorded.
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
    rerank_times = page.with_name("rerank_times.json")  # of the rerank stage, where it ran on this machine
    if rerank_times.is_file():
        times = json.loads(rerank_times.read_text(encoding="utf-8"))
        parts.append("second look " + ", ".join(f"{name} {seconds:.2f} s a query" for name, seconds in times.items()))
    if run_id is not None:
        parts.append(f"MLflow run {run_id}")
    content = {"model_sha256": file_sha256(model), "text": "; ".join(parts)}
    path = page.with_name("run.js")
    path.write_text(f"window.vprRun = {json.dumps(content)};\n", encoding="utf-8")
    return path
