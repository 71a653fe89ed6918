"""MLflow: the only import of it, save ``mlflow_model``, which MLflow itself runs.

Files are the truth: a stage never fails because of MLflow, and ``record`` can rebuild a run from what
the stages left. A run belongs to a trained model and is found by the hash of its checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from vpr.comparison import Run
from vpr.datasets.checksums import file_sha256
from vpr.datasets.manifest import Manifest
from vpr.project import main_root

EXPERIMENT = "vpr"
KEY_TAG, CHECKPOINT_TAG, MODEL_TAG = "vpr.run_key", "vpr.checkpoint_sha256", "vpr.model_sha256"
EXPERIMENT_TAG, COMMIT_TAG = "dvc.experiment", "mlflow.source.git.commit"
INDEX_TAG, DIGEST_TAG = "vpr.index_sha256", "vpr.dataset_digest"


def store_folder() -> Path:
    """Where the project's own store lies: ``mlruns`` of the main repository, whatever the working directory."""
    return main_root() / "mlruns"


def tracking_uri() -> str:
    """``$MLFLOW_TRACKING_URI``, or the project's SQLite store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_folder() / 'mlflow.db'}"


def git_commit() -> str:
    """The commit that runs, with ``+changes`` if parameters or code differ from it; ``unknown`` outside git."""

    def git(*command: str) -> str:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()

    try:
        # What a run itself rewrites is no change of what runs.
        changes = git("status", "--porcelain", "-uno", "--", ".", ":!dvc.lock", ":!metrics")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    result: dict[str, Any] = {}
    for key, value in nested.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


class TrainingRun:
    """Logs a training while it goes on; an interrupted one is continued under the same run.

    Args:
        key: of the training, see ``vpr.stages.train.run_key``.
        configuration: nested parameters of all that takes part.
        manifest: the dataset.
        facts: ``dataset_digest``, ``git_commit`` and ``experiment`` of ``training.json``.
    """

    def __init__(self, key: str, configuration: dict[str, Any], manifest: Manifest, facts: dict[str, Any]) -> None:
        self.key, self.configuration, self.manifest, self.facts = key, configuration, manifest, facts
        self.mlflow: Any = None
        self.curve_is_whole = True

    def __enter__(self) -> TrainingRun:
        try:
            mlflow = connect()
            unfinished = _find_run(mlflow, KEY_TAG, self.key)
            mlflow.set_system_metrics_sampling_interval(5)
            if unfinished is not None and CHECKPOINT_TAG not in unfinished.data.tags:
                mlflow.start_run(run_id=unfinished.info.run_id, log_system_metrics=True)
            else:
                name = run_name(self.configuration, self.facts)
                mlflow.start_run(run_name=name, log_system_metrics=True)
                mlflow.set_tag(KEY_TAG, self.key)
                _describe(mlflow, self.configuration, self.facts, self.manifest)
            self.mlflow = mlflow
        except Exception as error:  # tracking must not cost a training
            warn(f"this training is not tracked: {error}")
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        """Add a row of the training curve."""
        if self.mlflow is not None and self.curve_is_whole:
            try:
                self.mlflow.log_metrics({f"training/{k}": v for k, v in values.items()}, step=step)
            except Exception as error:  # likewise
                self.curve_is_whole = False
                warn(f"the training curve is no longer tracked: {error}")

    def finish(self, checkpoint: Path) -> None:
        """Tie the run to the model that came out; with a gap in its curve, leave that to ``record``."""
        if self.mlflow is not None and self.curve_is_whole:
            try:
                self.mlflow.set_tag(CHECKPOINT_TAG, file_sha256(checkpoint))
            except Exception as error:  # likewise
                warn(f"the run is not finished: {error}")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.mlflow is not None:
            status = "FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
            try:
                self.mlflow.end_run(status)
            except Exception as failure:  # likewise
                warn(f"the run is not closed: {failure}")


def record(
    facts: dict[str, Any],
    models: Path,
    model: Path,
    index: Path,
    exported: dict[str, Any],
    curve: list[dict[str, float]],
    recalls: dict[str, dict[str, Any]],
    artifacts: list[Path],
    manifest: Manifest,
) -> str:
    """Bring a trained model's run up to date, from the files; make it if this store has none.

    Args:
        facts: ``training.json`` of the train stage.
        models: folder of ``best.ckpt``, whose hash finds the run.
        model, index: checkpoint of the model that was evaluated, and what it locates photos in; logged together.
        exported: how that was made of the trained one; made in another way, it has a run of its own.
        curve: rows of ``metrics/training.csv`` and ``validation.csv``.
        recalls: metrics by evaluation set.
        artifacts: small files to keep with the run.
        manifest: the dataset.

    Returns:
        The run's id.
    """
    mlflow = connect()
    sha256 = file_sha256(models / "best.ckpt")
    configuration = facts["configuration"]
    model_sha256 = file_sha256(model)
    whole = _find_run(mlflow, CHECKPOINT_TAG, sha256, model_sha256)
    run = whole or (_find_run(mlflow, KEY_TAG, facts["run_key"], model_sha256) if "run_key" in facts else None)
    started = {"run_id": run.info.run_id} if run else {"run_name": run_name(configuration, facts)}
    with mlflow.start_run(**started) as active:
        if run is None:
            _describe(mlflow, configuration, facts, manifest)
        if whole is None:
            for row in curve:
                values = {f"training/{k}": v for k, v in row.items() if k not in ("step", "epoch") and v == v}
                mlflow.log_metrics(values, step=int(row["step"]))
            mlflow.set_tag(CHECKPOINT_TAG, sha256)
        known = run.data.metrics if run else {}
        totals = {"training/seconds": facts["seconds"], "training/best_epoch": facts["best_epoch"]}
        # A checkpoint may be evaluated on other data than it was trained on: its own recalls must stay.
        other = "" if manifest.name == configuration["dataset"]["name"] else f"{manifest.name}/"
        numbers = (
            (f"{other}{name}/{k}", v) for name, part in recalls.items() for k, v in part.items() if k != "positives"
        )
        found = totals | dict(numbers)
        news = {k: float(v) for k, v in found.items() if known.get(k) != float(v)}
        if news:
            mlflow.log_metrics(news)
        for path in artifacts:
            mlflow.log_artifact(str(path), artifact_path=path.parent.name)
        index_sha256 = _folder_sha256(index)
        if not run or run.data.tags.get(MODEL_TAG) != model_sha256 or run.data.tags.get(INDEX_TAG) != index_sha256:
            _log_model(mlflow, model, index)
            mlflow.log_params(flat({"export": exported}))
            mlflow.set_tags({MODEL_TAG: model_sha256, INDEX_TAG: index_sha256})
        return str(active.info.run_id)


def run_name(configuration: dict[str, Any], facts: dict[str, Any]) -> str:
    """The name of the DVC experiment that trained the model, or the chosen components."""
    components = "-".join(configuration[key]["name"] for key in ("backbone", "agg", "loss", "miner"))
    return facts["experiment"] or components


def connect() -> Any:
    """Import MLflow and point it to the store and the project's experiment, made on first use."""
    # A server that is down would block for minutes at each call.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    store_folder().mkdir(parents=True, exist_ok=True)
    import mlflow

    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    # Two processes that initialise a new SQLite store together break it.
    with FileLock(store_folder() / "store.lock"):
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            location = (store_folder() / "artifacts").as_uri() if uri.startswith("sqlite") else None
            mlflow.create_experiment(EXPERIMENT, artifact_location=location)
        mlflow.set_experiment(EXPERIMENT)
    return mlflow


def warn(message: str) -> None:
    """Say on stderr what went wrong with tracking, and how to mend it."""
    print(f"MLflow: {message}; results are safe in files, `make record` brings them into MLflow", file=sys.stderr)


def _find_run(mlflow: Any, tag: str, value: str, model_sha256: str | None = None) -> Any:
    """The newest run of the experiment with a tag, and with this model or none yet, or ``None``."""
    found = mlflow.search_runs(
        experiment_names=[EXPERIMENT],
        filter_string=f"tags.`{tag}` = '{value}'",
        order_by=["attributes.start_time DESC"],
        output_format="list",
    )
    fits = [run for run in found if not model_sha256 or run.data.tags.get(MODEL_TAG, model_sha256) == model_sha256]
    return fits[0] if fits else None


def _describe(mlflow: Any, configuration: dict[str, Any], facts: dict[str, Any], manifest: Manifest) -> None:
    """Parameters, dataset, commit and experiment of the active run."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    mlflow.log_params(flat(configuration))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a folder has two readings, both of them right
        source = resolve_dataset_source(str(manifest.folder))
    mlflow.log_input(MetaDataset(source, name=manifest.name, digest=facts["dataset_digest"]), context="training")
    tags = {COMMIT_TAG: facts["git_commit"], DIGEST_TAG: facts["dataset_digest"]}
    if facts["experiment"]:
        tags[EXPERIMENT_TAG] = facts["experiment"]
    mlflow.set_tags(tags)


def _log_model(mlflow: Any, checkpoint: Path, index: Path) -> None:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    package = Path(__file__).parent
    options = [
        ParamSpec("min_confidence", "double", 0.0),
        ParamSpec("num_predictions", "long", 5),
        ParamSpec("descriptor", "boolean", False),
    ]
    signature = ModelSignature(Schema([ColSpec("string", "photo")]), params=ParamSchema(options))
    needs = [
        "mlflow",
        "torch",
        "torchvision",
        "numpy",
        "pandas",
        "pillow",
        "pyarrow",
        "pydantic",
        "pyyaml",
        "scipy",
        "utm",
    ]
    needs += ["timm", _faiss()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for an input example, which the signature makes needless
        mlflow.pyfunc.log_model(
            name="model",
            python_model=str(package / "mlflow_model.py"),
            artifacts={"checkpoint": str(checkpoint), "index": str(index)},
            code_paths=[str(package)],
            signature=signature,
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in needs],
        )


def _folder_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(f"{file.name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _faiss() -> str:
    """The package that FAISS is installed from."""
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    return next(name for name in ("faiss-gpu", "faiss-cpu") if name in installed)


def receipt(run_id: str | None, model: Path, recalls: dict[str, dict[str, Any]]) -> str:
    """What the record stage leaves: the same text for the same results, whichever run and store."""
    digest = hashlib.sha256(json.dumps(recalls, sort_keys=True).encode()).hexdigest()
    content = {"recorded": run_id is not None, "model_sha256": file_sha256(model), "recalls_sha256": digest}
    return json.dumps(content, indent=2) + "\n"


def finished_runs() -> list[Run]:
    """Runs of the store that have recalls, newest first.

    Raises:
        ValueError: if the store can't be asked.
    """
    try:
        found = connect().search_runs(
            experiment_names=[EXPERIMENT],
            order_by=["attributes.start_time DESC"],
            output_format="list",
            max_results=5000,
        )
    except Exception as error:  # each kind of store has its own
        raise ValueError(f"MLflow at {tracking_uri()} can't be asked: {str(error)[:200]}") from None
    runs = [
        Run(r.info.run_id, r.info.run_name, dict(r.data.params), dict(r.data.metrics), r.data.tags.get(DIGEST_TAG, ""))
        for r in found
    ]
    return [run for run in runs if run.sets()]


def find_run(wanted: str, runs: list[Run]) -> Run:
    """The run of a name, or of an id or its beginning; the newest of several of the same name.

    Raises:
        ValueError: if there is none, or an id's beginning fits several.
    """
    named = [run for run in runs if run.name == wanted]
    begun = [run for run in runs if run.id.startswith(wanted)]
    if named:
        return named[0]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise ValueError(f"{len(begun)} runs begin with {wanted!r}; give more of the id")
    names = ", ".join(dict.fromkeys(run.name for run in runs[:20])) or "none"
    raise ValueError(f"no run is named {wanted!r}, and no id begins so; the newest are: {names}")


def run_predictions(run: Run, set_name: str) -> pd.DataFrame:
    """The predictions that a run left on an evaluation set.

    Raises:
        ValueError: if it left none.
    """
    return pd.read_parquet(_artifact(run, f"predictions/{set_name}.parquet"))


def run_recalls(run: Run, set_name: str) -> dict[str, Any]:
    """``metrics/recalls/<set>.json`` of a run."""
    found: dict[str, Any] = json.loads(_artifact(run, f"recalls/{set_name}.json").read_text(encoding="utf-8"))
    return found


def _artifact(run: Run, path: str) -> Path:
    mlflow = connect()
    try:
        return Path(mlflow.artifacts.download_artifacts(run_id=run.id, artifact_path=path))
    except Exception as error:  # each kind of store has its own
        raise ValueError(f"run {run.name} ({run.id[:8]}) has no {path}: {str(error)[:120]}") from None


def promote(run: Run, name: str, alias: str, beats: Callable[[Run], str]) -> str:
    """Register a run's model and give it an alias, if it beats the model that has the alias.

    Args:
        name, alias: of the registered model, such as ``vpr`` and ``champion``.
        beats: called with the present holder's run; says why the new one is better, or raises.

    Returns:
        What was done.
    """
    mlflow = connect()
    client = mlflow.tracking.MlflowClient()
    why = "the first to hold the alias"
    try:
        holder = client.get_model_version_by_alias(name, alias)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code not in (
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        ):  # no such model, no such alias
            raise ValueError(f"MLflow at {tracking_uri()} can't be asked: {str(error)[:200]}") from None
        holder = None
    if holder is not None:
        if holder.run_id == run.id:
            return f"{run.name} is {name}@{alias} already, version {holder.version}"
        held = [other for other in finished_runs() if other.id == holder.run_id]
        if not held:
            raise ValueError(
                f"the run of {name}@{alias}, version {holder.version}, is gone, so nothing can be compared; take the "
                "alias from it in MLflow to start again"
            )
        why = beats(held[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version = mlflow.register_model(f"runs:/{run.id}/model", name)
    client.update_model_version(name, version.version, description=why)
    client.set_registered_model_alias(name, alias, version.version)
    return f"{run.name} is now {name}@{alias}, version {version.version}: {why}"
