"""Access to the MLflow store. Only the modules of this folder import MLflow.

No stage fails because a tracking server cannot be reached: the record stage can rebuild a run from files. A run belongs
to a trained model and is found by the hash of its checkpoint.
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

from vpr.config.atomic_files import atomic_write
from vpr.config.project import main_root
from vpr.data.manifest import Manifest
from vpr.training.configuration import RunConfiguration
from vpr.training.summary import TrainingLog

EXPERIMENT = "vpr"
KEY_TAG, CHECKPOINT_TAG, MODEL_TAG = "vpr.run_key", "vpr.checkpoint_sha256", "vpr.model_sha256"
EXPERIMENT_TAG, COMMIT_TAG = "dvc.experiment", "mlflow.source.git.commit"
LOG_ARTIFACT = "training/log.json"  # commit, machine and versions
INDEX_TAG, DIGEST_TAG = "vpr.index_sha256", "vpr.dataset_digest"
SET_TAG = "vpr.set."  # followed by a set's name in the metrics; its value is the digest of the set
SWEEP_TAG, SWEEP_VARIABLE = "vpr.sweep", "VPR_SWEEP"  # set by `vpr sweep` for its experiments
NAMES_TAG = "vpr.experiments"  # other DVC experiments with this result, separated by spaces


def store_folder() -> Path:
    """Return the folder of the project's own store: ``mlruns`` of the main repository."""
    return main_root() / "mlruns"


def tracking_uri() -> str:
    """Return ``$MLFLOW_TRACKING_URI``, or the address of the project's SQLite store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_folder() / 'mlflow.db'}"


def is_own_store() -> bool:
    """Return true if the store is a local file, which can always be reached."""
    return tracking_uri().startswith("sqlite:")


def without_passwords(text: object) -> str:
    """Remove passwords from a text, such as the store's address or an error of MLflow."""
    return re.sub(r"(://[^/\s:@]*):[^/\s]*@", r"\1:***@", str(text))


def connect() -> Any:
    """Import MLflow, and select the store and the project's experiment, which are created on first use."""
    # Otherwise each call to a server that is down would block for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they log routine messages as warnings

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
    """Create the database atomically, because MLflow cannot recover from a half-created one."""
    with atomic_write(database) as part:
        mlflow.set_tracking_uri(f"sqlite:///{part}")
        mlflow.get_experiment_by_name(EXPERIMENT)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Lock the store, because two processes that initialise it together damage it. A read-only store needs no lock."""
    with ExitStack() as stack:
        try:
            store_folder().mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(store_folder() / "store.lock"))
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
        yield


def warn(message: str) -> None:
    """Print a problem with tracking to stderr, and how to solve it."""
    print(
        f"MLflow: {without_passwords(message)}; results are safe in files; `make record` logs them to MLflow",
        file=sys.stderr,
    )


def newest_run(mlflow: Any, tag: str, value: str, model_sha256: str | None = None) -> Any:
    """Return the newest run with a tag; if ``model_sha256`` is given, one with this model, or else without a model."""
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
    """Return metric and step of all rows of the training curve in the store."""
    client = mlflow.tracking.MlflowClient()
    names = [name for name in client.get_run(run_id).data.metrics if name.startswith("training/")]
    return {(name, row.step) for name in names for row in client.get_metric_history(run_id, name)}


def run_name(configuration: RunConfiguration, log: TrainingLog | None) -> str:
    """Return the name of the DVC experiment that trained the model, or the names of the components."""
    return (log.experiment if log else None) or "-".join(configuration.components)


def dataset_source(folder: Path) -> Any:
    """Return MLflow's description of a folder of images."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns that a folder matches two kinds of sources
        return resolve_dataset_source(str(folder))


def describe_run(
    mlflow: Any, configuration: RunConfiguration, digest: str, log: TrainingLog | None, manifest: Manifest
) -> None:
    """Set parameters, dataset, commit and experiment of the active run, unless they are set.

    Args:
        mlflow: The module, see ``connect``.
        configuration: Configuration of the training.
        digest: Digest of the training manifest.
        log: Log of the training; ``None`` if the model was trained on another machine.
        manifest: Manifest of the training images.
    """
    from mlflow.data.meta_dataset import MetaDataset

    if DIGEST_TAG in mlflow.active_run().data.tags:  # this tag is set last
        return
    mlflow.log_params(configuration.as_params())
    source = dataset_source(manifest.folder)
    mlflow.log_input(MetaDataset(source, name=manifest.name, digest=digest), context="training")
    tags = {DIGEST_TAG: digest}
    if log is not None:
        tags[COMMIT_TAG] = log.git_commit
        if log.experiment:
            tags[EXPERIMENT_TAG] = log.experiment
    mlflow.set_tags(tags)
