"""Log a training to MLflow while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vpr.data.checksums import file_sha256
from vpr.data.manifest import Manifest
from vpr.experiments.store import (
    CHECKPOINT_TAG,
    KEY_TAG,
    connect,
    describe_run,
    logged_steps,
    newest_run,
    run_name,
    warn,
)
from vpr.training.configuration import RunConfiguration
from vpr.training.summary import TrainingLog


class TrainingRun:
    """The MLflow run of a training. An interrupted training continues the same run.

    Args:
        key: Key of the training, see ``vpr.training.run.run_key``.
        configuration: Configuration of the training.
        manifest: Manifest of the training images.
        digest: Digest of the manifest.
        training_log: Commit and experiment of this process.
    """

    def __init__(
        self, key: str, configuration: RunConfiguration, manifest: Manifest, digest: str, training_log: TrainingLog
    ) -> None:
        self.key, self.configuration, self.manifest = key, configuration, manifest
        self.digest, self.training_log = digest, training_log
        self.mlflow: Any = None
        self.curve_is_whole = True
        self.logged: set[tuple[str, int]] = set()

    def __enter__(self) -> TrainingRun:
        try:
            mlflow = connect()
            unfinished = newest_run(mlflow, KEY_TAG, self.key)
            mlflow.set_system_metrics_sampling_interval(5)
            if unfinished is not None and CHECKPOINT_TAG not in unfinished.data.tags:
                mlflow.start_run(run_id=unfinished.info.run_id, log_system_metrics=True)
                self.logged = logged_steps(mlflow, unfinished.info.run_id)
            else:
                name = run_name(self.configuration, self.training_log)
                mlflow.start_run(run_name=name, log_system_metrics=True, tags={KEY_TAG: self.key})
            describe_run(mlflow, self.configuration, self.digest, self.training_log, self.manifest)
            self.mlflow = mlflow
        except Exception as error:  # tracking must never stop training
            warn(f"this training is not tracked: {error}")
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        """Log a row of the training curve, unless an interrupted training has logged it already."""
        if self.mlflow is not None and self.curve_is_whole:
            named = {f"training/{key}": value for key, value in values.items()}
            new = {name: value for name, value in named.items() if (name, step) not in self.logged}
            try:
                self.mlflow.log_metrics(new, step=step)
            except Exception as error:  # tracking must never stop training
                self.curve_is_whole = False
                warn(f"the training curve is no longer tracked: {error}")

    def finish(self, checkpoint: Path) -> None:
        """Tag the run with the checkpoint; if its curve has a gap, the record stage does this.

        A repeated training with the same weights, such as one after an edit of the code, keeps only the first run.
        """
        if self.mlflow is not None and self.curve_is_whole:
            try:
                sha256 = file_sha256(checkpoint)
                first = newest_run(self.mlflow, CHECKPOINT_TAG, sha256)
                if first is None:
                    self.mlflow.set_tag(CHECKPOINT_TAG, sha256)
                    return
                print(f"MLflow already has this model, as run {first.info.run_id}", flush=True)
                again = self.mlflow.active_run().info.run_id
                self.mlflow.end_run()
                self.mlflow.delete_run(again)
                self.mlflow = None
            except Exception as error:  # tracking must never stop training
                warn(f"the run is not finished: {error}")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.mlflow is not None:
            status = "FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
            try:
                self.mlflow.end_run(status)
            except Exception as failure:  # tracking must never stop training
                warn(f"the run is not closed: {failure}")
