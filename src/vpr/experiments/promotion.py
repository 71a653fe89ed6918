"""MLflow's model registry: give a run's model an alias, and download models."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

from vpr.config.errors import UserError, one_line
from vpr.config.project import find_project
from vpr.experiments.recording import logged_model
from vpr.experiments.runs import Run, finished_runs
from vpr.experiments.store import MODEL_TAG, connect, tracking_uri, without_passwords


def promote(run: Run, name: str, alias: str, beats: Callable[[Run], str]) -> str:
    """Register a run's model and give it an alias, if it beats the model that has the alias.

    Args:
        run: Run whose model to register.
        name: Name of the registered model, such as ``vpr``.
        alias: Alias, such as ``champion``.
        beats: Function of the current holder's run; it returns why the new run is better, or raises ``UserError``.

    Returns:
        A message about the outcome.
    """
    mlflow = connect()
    client = mlflow.tracking.MlflowClient()
    reason = "the first to hold the alias"
    try:
        holder = client.get_model_version_by_alias(name, alias)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model or alias
            raise UserError(
                one_line(without_passwords(f"could not query MLflow at {tracking_uri()}: {error}"))
            ) from None
        holder = None
    if holder is not None:
        if holder.run_id == run.id:
            return f"{run.name} is already {name}@{alias}, version {holder.version}"
        held = [other for other in finished_runs() if other.id == holder.run_id]
        if not held:
            raise UserError(
                f"the run of {name}@{alias}, version {holder.version}, no longer exists, so nothing can be compared; "
                "remove the alias from that version in MLflow, then run this command again"
            )
        reason = beats(held[0])
    found = client.get_run(run.id)
    of_model = {key: value for key, value in found.data.tags.items() if key == MODEL_TAG}
    model_id = logged_model(mlflow, found.info, of_model)
    if model_id is None:
        raise UserError(f"run {run.name} has no model in MLflow; run `make record`, then this command again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version = mlflow.register_model(f"models:/{model_id}", name)
    client.update_model_version(name, version.version, description=reason)
    client.set_registered_model_alias(name, alias, version.version)
    return f"{run.name} is now {name}@{alias}, version {version.version}: {reason}"


def registered_models() -> list[tuple[str, str]]:
    """Return the address of each alias, such as ``models:/vpr@champion``, and the id of its run."""
    client = connect().tracking.MlflowClient()
    return [
        (f"models:/{model.name}@{alias}", client.get_model_version(model.name, version).run_id or "")
        for model in client.search_registered_models()
        for alias, version in model.aliases.items()
    ]


def download_checkpoint(address: str) -> Path:
    """Download the checkpoint of a registered model (``models:/vpr@champion``) or of a run (``runs:/<id>``).

    Raises:
        UserError: if MLflow is not installed, or the store has no such model.
    """
    if find_project(Path.cwd()) is None and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UserError(f"{address}: go to the project's folder, or set MLFLOW_TRACKING_URI to the store")
    try:
        mlflow = connect()
    except ModuleNotFoundError:
        raise UserError(f"{address}: MLflow is not installed; pip install 'vpr[pipeline]'") from None
    wanted = address if address.startswith("models:/") else f"{address.rstrip('/')}/model"
    try:
        folder = Path(mlflow.artifacts.download_artifacts(wanted))
    except Exception as error:  # MLflow and its servers raise errors of many kinds
        reason = without_passwords(f"{address} is not in MLflow at {tracking_uri()}: {error}")
        raise UserError(one_line(reason)) from None
    found = sorted(folder.glob("artifacts/*.ckpt"))
    if len(found) != 1:
        raise UserError(f"{address}: not a model that `dvc repro` recorded, because it holds {len(found)} checkpoints")
    return found[0]
