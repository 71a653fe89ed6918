"""Record the results of the stages in MLflow."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

import vpr
from vpr.data.checksums import file_sha256
from vpr.data.manifest import Manifest, read_manifest
from vpr.descriptors.params import ExportParams
from vpr.experiments.store import (
    CHECKPOINT_TAG,
    INDEX_TAG,
    KEY_TAG,
    LOG_ARTIFACT,
    MODEL_TAG,
    NAMES_TAG,
    SET_TAG,
    SWEEP_TAG,
    SWEEP_VARIABLE,
    connect,
    dataset_source,
    describe_run,
    logged_steps,
    newest_run,
    run_name,
)
from vpr.training.configuration import flat
from vpr.training.summary import TrainingLog, TrainingSummary


@dataclass(frozen=True)
class Results:
    """Results of the stages for one model.

    Attributes:
        summary: Summary of the training.
        log: Log of the training; ``None`` if the model was trained on another machine.
        best: Trained checkpoint, whose hash identifies the run.
        model: Checkpoint of the evaluated model.
        index: Folder of the index, which is logged together with the model.
        exported: Settings of the export; other settings make another run.
        curve: Rows of ``metrics/training.csv`` and ``validation.csv``.
        recalls: Metrics by evaluation set.
        artifacts: Small files to keep with the run.
        manifest: Manifest of the training images.
        digests: Digests of the evaluation sets, if they are known.
    """

    summary: TrainingSummary
    log: TrainingLog | None
    best: Path
    model: Path
    index: Path
    exported: dict[str, Any]
    curve: list[dict[str, float]]
    recalls: dict[str, dict[str, Any]]
    artifacts: list[Path]
    manifest: Manifest
    digests: dict[str, str] = field(default_factory=dict)


def gather(
    manifest: Path, evaluation: Path, models: Path, model: Path, index: Path, predictions: Path, report: Path,
    metrics: Path, set_names: Sequence[str], exported: ExportParams,
) -> Results:  # fmt: skip
    """Read the outputs of the stages; see ``Results``.

    Args:
        manifest: Manifest of the training images.
        evaluation: Manifest of the evaluation sets.
        models: Folder of ``best.ckpt`` and ``training.json``.
        model: Checkpoint of the evaluated model.
        index: Folder of the index.
        predictions: Folder of ``<set>.parquet``.
        report: The report.
        metrics: Folder of ``training.csv``, ``validation.csv``, ``reranked.json``, ``recalls/`` and ``conditions/``.
        set_names: Evaluation sets.
        exported: Section ``export``.
    """
    recalls: dict[str, dict[str, Any]] = {}
    artifacts = [models / "training.json", report]
    for name in set_names:
        path = metrics / "recalls" / f"{name}.json"
        recalls[name] = json.loads(path.read_text(encoding="utf-8"))
        artifacts += [path, metrics / "conditions" / f"{name}.csv", predictions / f"{name}.parquet"]
    reranked = json.loads((metrics / "reranked.json").read_text(encoding="utf-8"))
    for name, found in reranked.get("sets", {}).items():
        recalls[name] |= {f"reranked/{key}": value for key, value in found.items()}
    curve: Any = [
        row for name in ("training.csv", "validation.csv") for row in pd.read_csv(metrics / name).to_dict("records")
    ]
    best = models / "best.ckpt"
    sets = read_manifest(evaluation)
    digests = {name: set_digest(sets, name) for name in set_names}
    return Results(
        TrainingSummary.load(models), TrainingLog.find(best), best, model, index, exported.model_dump(), curve, recalls,
        artifacts, read_manifest(manifest), digests,
    )  # fmt: skip


def record(results: Results) -> str:
    """Update the run of a trained model from the files, or create it, and return its id."""
    mlflow = connect()
    summary, log = results.summary, results.log
    sha256, model_sha256 = file_sha256(results.best), file_sha256(results.model)
    whole = newest_run(mlflow, CHECKPOINT_TAG, sha256, model_sha256)
    key = summary.run_key or sha256  # set when the run is created, so that an interrupted record finds it
    unfinished = newest_run(mlflow, KEY_TAG, key, model_sha256)
    if unfinished is not None and CHECKPOINT_TAG in unfinished.data.tags:  # the same training with other weights
        unfinished = None
    run = whole or unfinished
    new_run = {"run_name": run_name(summary.configuration, log), "tags": {KEY_TAG: key}}
    with mlflow.start_run(**({"run_id": run.info.run_id} if run else new_run)) as active:
        describe_run(mlflow, summary.configuration, summary.dataset_digest, log, results.manifest)
        if whole is None:
            _complete_curve(mlflow, active.info.run_id, results.curve)
            mlflow.set_tag(CHECKPOINT_TAG, sha256)
        known = run.data.metrics if run else {}
        names = _names_of_sets(results, run.data.tags if run else {})
        mlflow.set_tags({SET_TAG + names[name]: digest for name, digest in results.digests.items()})
        if log is not None:
            mlflow.log_dict(asdict(log), LOG_ARTIFACT)
        for path in results.artifacts:
            mlflow.log_artifact(str(path), artifact_path=path.parent.name)
        hashes = {MODEL_TAG: model_sha256, INDEX_TAG: _folder_sha256(results.index)}
        model_id = logged_model(mlflow, active.info, hashes, tidy=True)
        known = known if model_id else {}  # a new model gets all recalls
        if model_id is None or not run or any(run.data.tags.get(tag) != sha256 for tag, sha256 in hashes.items()):
            model_id = model_id or _log_model(mlflow, results.model, results.index, hashes)
            mlflow.log_params(flat({"export": results.exported}))
            mlflow.set_tags(hashes)
        _log_numbers(mlflow, results, names, known, model_id)
        known_names = active.data.tags.get(NAMES_TAG, "").split()
        name = os.environ.get("DVC_EXP_NAME")
        if name and name not in (*known_names, active.info.run_name):
            mlflow.set_tag(NAMES_TAG, " ".join([*known_names, name]))
        if os.environ.get(SWEEP_VARIABLE):
            mlflow.set_tag(SWEEP_TAG, os.environ[SWEEP_VARIABLE])
        return str(active.info.run_id)


def _complete_curve(mlflow: Any, run_id: str, curve: Sequence[dict[str, float]]) -> None:
    """Log the missing rows of the training curve."""
    logged = logged_steps(mlflow, run_id)
    for row in curve:
        step = int(row["step"])
        values = {f"training/{k}": v for k, v in row.items() if k not in ("step", "epoch") and v == v}
        mlflow.log_metrics({name: v for name, v in values.items() if (name, step) not in logged}, step=step)


def logged_model(mlflow: Any, run: Any, hashes: dict[str, str], tidy: bool = False) -> str | None:
    """Return the id of a run's logged model with these tags, if it is complete.

    Args:
        mlflow: The module, see ``connect``.
        run: The run's ``info``.
        hashes: Tags of the model.
        tidy: Delete incomplete models, which an interrupted record has left.
    """
    client = mlflow.tracking.MlflowClient()
    found = client.search_logged_models([run.experiment_id], filter_string=f"source_run_id = '{run.run_id}'")
    for model in found:
        if tidy and str(model.status) != "READY":
            client.delete_logged_model(model.model_id)
    whole = (m.model_id for m in found if str(m.status) == "READY" and hashes.items() <= m.tags.items())
    return next(whole, None)


def set_digest(manifest: Manifest, name: str) -> str:
    """Return a digest of an evaluation set: the content of its images, and the columns that define positives."""
    rows = manifest.rows[manifest.rows["set"] == name]
    labels = ["role", "sha256", "utm_east", "utm_north", "utm_zone", "place_id", "frame", "positive_frames"]
    table = rows[[label for label in labels if label in rows]]
    lines = sorted("\t".join(map(str, row)) for row in table.itertuples(index=False))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _names_of_sets(results: Results, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each set in the run, chosen so that recalls on other images are not overwritten.

    Args:
        results: Results to record.
        tags: Tags of the run.
    """
    # A checkpoint may be evaluated on another dataset than it was trained on.
    is_own = results.manifest.name == results.summary.configuration.dataset.name
    names = {}
    for name in results.recalls:
        digest = results.digests.get(name, "")
        plain = name if is_own else f"{results.manifest.name}/{name}"
        is_another = tags.get(SET_TAG + plain, digest) != digest
        names[name] = f"{plain}-{digest[:8]}" if is_another else plain
    return names


def _log_numbers(
    mlflow: Any, results: Results, names: Mapping[str, str], known: Mapping[str, float], model_id: str
) -> None:
    """Log the new metrics of a run apart from its curve, those of a set together with the set and the model."""
    from mlflow.data.meta_dataset import MetaDataset

    training = {"training/best_epoch": float(results.summary.best_epoch)}
    if results.log is not None:
        training["training/seconds"] = results.log.seconds
    mlflow.log_metrics({key: value for key, value in training.items() if known.get(key) != value})
    source = dataset_source(results.manifest.folder)
    for name, metrics in results.recalls.items():
        numbers = {f"{names[name]}/{k}": float(v) for k, v in metrics.items() if not isinstance(v, str)}
        new = {key: value for key, value in numbers.items() if known.get(key) != value}
        if new:
            evaluated = MetaDataset(source, name=names[name], digest=results.digests.get(name))
            mlflow.log_input(evaluated, context="evaluation")
            mlflow.log_metrics(new, dataset=evaluated, model_id=model_id)


def example_photo() -> str:
    """Return a small JPEG in base64, as an example of the served model's input."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    pixels = np.stack([np.tile(ramp, (48, 1)), np.tile(ramp[:48, None], (1, 64)), np.full((48, 64), 128)], axis=2)
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "JPEG")
    return base64.b64encode(out.getvalue()).decode("ascii")


def _log_model(mlflow: Any, checkpoint: Path, index: Path, tags: dict[str, str]) -> str:
    """Log the model that MLflow serves, and return its id."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    package = Path(vpr.__file__).parent
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
        warnings.simplefilter("ignore")  # about the type hints of the model's file
        logged = mlflow.pyfunc.log_model(
            name="model",
            tags=tags,
            python_model=str(package / "experiments" / "served_model.py"),
            artifacts={"checkpoint": str(checkpoint), "index": str(index)},
            code_paths=[str(package)],
            signature=signature,
            input_example=pd.DataFrame({"photo": [example_photo()]}),
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in needs],
        )
    return str(logged.model_id)


def _folder_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(f"{file.name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _faiss() -> str:
    """Return the name of the installed FAISS package."""
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    return next(name for name in ("faiss-gpu", "faiss-cpu") if name in installed)


def receipt(run_id: str | None, model: Path, recalls: dict[str, dict[str, Any]]) -> str:
    """Return the content of the receipt, which is the same for the same results in any run and store."""
    digest = hashlib.sha256(json.dumps(recalls, sort_keys=True).encode()).hexdigest()
    content = {"recorded": run_id is not None, "model_sha256": file_sha256(model), "recalls_sha256": digest}
    return json.dumps(content, indent=2) + "\n"
