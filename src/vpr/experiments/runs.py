"""Finished runs of the MLflow store, and what they left."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vpr.config.errors import UserError
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
        params: flat, as text.
        metrics: flat, such as ``val/recall_at_1``.
        digest: of the training data.
        other_names: of DVC experiments with the same result, which did not have to be trained.
        set_digests: of the evaluation sets, by the name that their recalls have.
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
        """What it is known by."""
        return " = ".join([self.name, *self.other_names])

    def sets(self) -> list[str]:
        """Evaluation sets that this run has recalls of."""
        return [key.removesuffix("/recall_at_1") for key in self.metrics if key.endswith("/recall_at_1")]


def distinct_names(first: Run, second: Run) -> tuple[str, str]:
    """What two runs are called side by side: with their ids if their names are the same."""
    if first.name != second.name:
        return first.name, second.name
    return f"{first.name} ({first.id[:8]})", f"{second.name} ({second.id[:8]})"


def finished_runs() -> list[Run]:
    """Runs of the store that have recalls, newest first.

    Raises:
        UserError: if the store does not answer.
    """
    if is_own_store() and not Path(tracking_uri().removeprefix("sqlite:///")).is_file():
        raise UserError(f"no runs yet: {tracking_uri()} is not there; `dvc repro` makes the first")
    try:
        found = connect().search_runs(
            experiment_names=[EXPERIMENT],
            order_by=["attributes.start_time DESC"],
            output_format="list",
            max_results=5000,
        )
    except Exception as error:  # each kind of store has its own
        message = without_passwords(f"could not query MLflow at {tracking_uri()}: {error}")
        raise UserError(message[:300]) from None
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
    """The run of a name, or of an id or its beginning; the newest of several of the same name.

    Raises:
        UserError: if there is none, or an id's beginning fits several.
    """
    named = [run for run in runs if wanted in (run.name, *run.other_names)]
    begun = [run for run in runs if run.id.startswith(wanted)]
    if named:
        return named[0]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise UserError(f"{len(begun)} runs begin with {wanted!r}; use more characters of the id")
    names = ", ".join(dict.fromkeys(run.all_names for run in runs[:20])) or "none"
    raise UserError(f"no run is named {wanted!r}, and no id begins with that; the newest are: {names}")


def run_predictions(run: Run, set_name: str) -> Path:
    """The file of the predictions that a run left on an evaluation set; see ``vpr.retrieval.predictions``.

    Raises:
        UserError: if it left none.
    """
    return _artifact(run, f"predictions/{set_name}.parquet")


def run_recalls(run: Run, set_name: str) -> dict[str, Any]:
    """``metrics/recalls/<set>.json`` of a run."""
    found: dict[str, Any] = json.loads(_artifact(run, f"recalls/{set_name}.json").read_text(encoding="utf-8"))
    return found


def run_log(run: Run) -> TrainingLog:
    """Where and with what a run was trained.

    Raises:
        UserError: if the run does not say.
    """
    try:
        path = _artifact(run, LOG_ARTIFACT)
    except UserError:
        raise UserError(
            f"run {run.name} ({run.id[:8]}) does not say what it was trained with: it was recorded on another machine, "
            "or by an older version"
        ) from None
    return TrainingLog(**json.loads(path.read_text(encoding="utf-8")))


def _artifact(run: Run, path: str) -> Path:
    mlflow = connect()
    try:
        return Path(mlflow.artifacts.download_artifacts(run_id=run.id, artifact_path=path))
    except Exception as error:  # each kind of store has its own
        raise UserError(f"run {run.name} ({run.id[:8]}) has no {path}: {str(error)[:120]}") from None
