"""Find finished runs in the MLflow store, and read their artifacts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vpr.config.errors import UserError, one_line
from vpr.experiments.store import (
    DIGEST_TAG,
    EXPERIMENT,
    LOG_ARTIFACT,
    NAMES_TAG,
    SET_TAG,
    connect,
    is_own_store,
    tracking_uri,
    without_passwords,
)
from vpr.training.summary import TrainingLog


@dataclass(frozen=True)
class Run:
    """A finished run of the MLflow store.

    Attributes:
        id: Id of the run.
        name: Name of the run.
        params: Parameters such as ``agg.name``, as text.
        metrics: Metrics such as ``val/recall_at_1``.
        digest: Digest of the training data.
        other_names: Names of DVC experiments with the same result, which needed no training.
        set_digests: Digests of the evaluation sets, by their names in the metrics.
    """

    id: str
    name: str
    params: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)
    digest: str = ""
    other_names: tuple[str, ...] = ()
    set_digests: dict[str, str] = field(default_factory=dict)

    @property
    def all_names(self) -> str:
        """All names of the run."""
        return " = ".join([self.name, *self.other_names])

    def sets(self) -> list[str]:
        """Return the names of the sets that the run was evaluated on."""
        return [key.removesuffix("/recall_at_1") for key in self.metrics if key.endswith("/recall_at_1")]


def distinct_names(first: Run, second: Run) -> tuple[str, str]:
    """Return the names of two runs, with their ids if the names are equal."""
    if first.name != second.name:
        return first.name, second.name
    return f"{first.name} ({first.id[:8]})", f"{second.name} ({second.id[:8]})"


def finished_runs() -> list[Run]:
    """Return the runs with recalls, newest first.

    Raises:
        UserError: if the store does not answer.
    """
    if is_own_store() and not Path(tracking_uri().removeprefix("sqlite:///")).is_file():
        raise UserError(f"there are no runs, because {tracking_uri()} does not exist; run `dvc repro` first")
    try:
        found = connect().search_runs(
            experiment_names=[EXPERIMENT],
            order_by=["attributes.start_time DESC"],
            output_format="list",
            max_results=5000,
        )
    except Exception as error:  # each kind of store raises its own errors
        raise UserError(one_line(without_passwords(f"could not query MLflow at {tracking_uri()}: {error}"))) from None
    runs = [
        Run(
            r.info.run_id,
            r.info.run_name,
            dict(r.data.params),
            dict(r.data.metrics),
            r.data.tags.get(DIGEST_TAG, ""),
            tuple(r.data.tags.get(NAMES_TAG, "").split()),
            {key.removeprefix(SET_TAG): value for key, value in r.data.tags.items() if key.startswith(SET_TAG)},
        )
        for r in found
    ]
    return [run for run in runs if run.sets()]


def find_run(wanted: str, runs: list[Run]) -> Run:
    """Return the run with a name, an id or the beginning of an id; the newest of several with one name.

    Raises:
        UserError: if there is none, or several ids begin so.
    """
    named = [run for run in runs if wanted in (run.name, *run.other_names)]
    begun = [run for run in runs if run.id.startswith(wanted)]
    if named:
        return named[0]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise UserError(f"the ids of {len(begun)} runs begin with {wanted!r}; use more characters")
    names = ", ".join(dict.fromkeys(run.all_names for run in runs[:20])) or "none"
    raise UserError(f"no run has the name {wanted!r} or an id that begins so; the newest runs are: {names}")


def run_predictions(run: Run, set_name: str) -> Path:
    """Download a run's predictions on an evaluation set; see ``vpr.evaluation.predictions``.

    Raises:
        UserError: if the run has none.
    """
    return _artifact(run, f"predictions/{set_name}.parquet")


def run_recalls(run: Run, set_name: str) -> dict[str, Any]:
    """Read a run's ``metrics/recalls/<set>.json``."""
    found: dict[str, Any] = json.loads(_artifact(run, f"recalls/{set_name}.json").read_text(encoding="utf-8"))
    return found


def run_log(run: Run) -> TrainingLog:
    """Return the log of a run's training.

    Raises:
        UserError: if the run has none.
    """
    try:
        path = _artifact(run, LOG_ARTIFACT)
    except UserError:
        raise UserError(
            f"run {run.name} ({run.id[:8]}) has no record of its environment, because it was trained on another "
            "machine or by an older version"
        ) from None
    return TrainingLog(**json.loads(path.read_text(encoding="utf-8")))


def _artifact(run: Run, path: str) -> Path:
    mlflow = connect()
    try:
        return Path(mlflow.artifacts.download_artifacts(run_id=run.id, artifact_path=path))
    except Exception as error:  # each kind of store raises its own errors
        raise UserError(f"run {run.name} ({run.id[:8]}) has no {path}: {str(error)[:120]}") from None
