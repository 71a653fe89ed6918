"""The MLflow store. The modules of this folder are the only ones that import MLflow.

Files are the truth: no stage fails because a tracking server is away, and ``record`` can rebuild a run from what the
stages left.
A run belongs to a trained model and is found by the hash of its checkpoint.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from vpr.config.project import main_root
from vpr.data.manifest import Manifest
from vpr.training.configuration import RunConfiguration
from vpr.training.summary import TrainingLog

EXPERIMENT = "vpr"
KEY_TAG, CHECKPOINT_TAG, MODEL_TAG = "vpr.run_key", "vpr.checkpoint_sha256", "vpr.model_sha256"
EXPERIMENT_TAG, COMMIT_TAG = "dvc.experiment", "mlflow.source.git.commit"
LOG_ARTIFACT = "training/log.json"  # commit, machine and versions
INDEX_TAG, DIGEST_TAG = "vpr.index_sha256", "vpr.dataset_digest"
SET_TAG = "vpr.set."  # and the name that an evaluation set's recalls have: the digest of the set
NAMES_TAG = "vpr.experiments"  # the other DVC experiments with this result, separated by spaces


def store_folder() -> Path:
    """Where the project's own store lies: ``mlruns`` of the main repository, whatever the working directory."""
    return main_root() / "mlruns"


def tracking_uri() -> str:
    """``$MLFLOW_TRACKING_URI``, or the project's SQLite store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_folder() / 'mlflow.db'}"


def is_own_store() -> bool:
    """Whether the store is a file of this machine, which can be full or broken but never away."""
    return tracking_uri().startswith("sqlite:")


def without_passwords(text: object) -> str:
    """A text that names the store, such as its address or an error of MLflow, fit to be printed."""
    return re.sub(r"(://[^/\s:@]*):[^/\s]*@", r"\1:***@", str(text))


def connect() -> Any:
    """Import MLflow and point it to the store and the project's experiment, made on first use."""
    # A server that is down would block for minutes at each call.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they tell what they do, and what else they could

    uri = tracking_uri()
    with _one_at_a_time():
        database = Path(uri.removeprefix("sqlite:///"))
        if is_own_store() and database.parent.is_dir() and not database.exists():
            _make_database(mlflow, database)
        mlflow.set_tracking_uri(uri)
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            location = (store_folder() / "artifacts").as_uri() if is_own_store() else None
            mlflow.create_experiment(EXPERIMENT, artifact_location=location)
        mlflow.set_experiment(EXPERIMENT)
    return mlflow


def _make_database(mlflow: Any, database: Path) -> None:
    """Make it aside: on a full disk, or killed, MLflow leaves half of the tables, and never gets over that."""
    part = database.with_name(f"{database.name}.part")
    part.unlink(missing_ok=True)
    mlflow.set_tracking_uri(f"sqlite:///{part}")
    mlflow.get_experiment_by_name(EXPERIMENT)
    part.replace(database)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two processes that initialise a new SQLite store together break it; where nothing can be written, none does."""
    with ExitStack() as stack:
        try:
            store_folder().mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(store_folder() / "store.lock"))
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
        yield


def warn(message: str) -> None:
    """Say on stderr what went wrong with tracking, and how to mend it."""
    print(
        f"MLflow: {without_passwords(message)}; results are safe in files, `make record` brings them into MLflow",
        file=sys.stderr,
    )


def newest_run(mlflow: Any, tag: str, value: str, model_sha256: str | None = None) -> Any:
    """The newest run of the experiment with a tag, and with this model or else with none yet, or ``None``."""
    found = mlflow.search_runs(
        experiment_names=[EXPERIMENT],
        filter_string=f"tags.`{tag}` = '{value}'",
        order_by=["attributes.start_time DESC"],
        output_format="list",
    )
    if model_sha256 is not None:
        having = [run for run in found if run.data.tags.get(MODEL_TAG) == model_sha256]
        found = having or [run for run in found if MODEL_TAG not in run.data.tags]
    return found[0] if found else None


def logged_steps(mlflow: Any, run_id: str) -> set[tuple[str, int]]:
    """Metric and step of each row of a training curve that the store has."""
    client = mlflow.tracking.MlflowClient()
    names = [name for name in client.get_run(run_id).data.metrics if name.startswith("training/")]
    return {(name, row.step) for name in names for row in client.get_metric_history(run_id, name)}


def run_name(configuration: RunConfiguration, log: TrainingLog | None) -> str:
    """The name of the DVC experiment that trained the model, or the chosen components."""
    return (log.experiment if log else None) or "-".join(configuration.components)


def describe_run(
    mlflow: Any, configuration: RunConfiguration, digest: str, log: TrainingLog | None, manifest: Manifest
) -> None:
    """Set parameters, dataset, commit and experiment of the active run, unless they are set.

    Args:
        digest: of the training manifest.
        log: ``None`` where the model was trained on another machine, so that commit and experiment are not known.
        manifest: the dataset.
    """
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    if DIGEST_TAG in mlflow.active_run().data.tags:  # what is set last
        return
    mlflow.log_params(configuration.as_params())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a folder can be read in two ways, both of them right
        source = resolve_dataset_source(str(manifest.folder))
    mlflow.log_input(MetaDataset(source, name=manifest.name, digest=digest), context="training")
    tags = {DIGEST_TAG: digest}
    if log is not None:
        tags[COMMIT_TAG] = log.git_commit
        if log.experiment:
            tags[EXPERIMENT_TAG] = log.experiment
    mlflow.set_tags(tags)
