"""MLflow's model registry: give a run's model an alias."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from vpr.config.errors import UserError
from vpr.experiments.runs import Run, finished_runs
from vpr.experiments.store import connect, tracking_uri, without_passwords


def promote(run: Run, name: str, alias: str, beats: Callable[[Run], str]) -> str:
    """Register a run's model and give it an alias, if it beats the model that has the alias.

    Args:
        name, alias: of the registered model, such as ``vpr`` and ``champion``.
        beats: called with the present holder's run; says why the new one is better, or raises ``UserError``.

    Returns:
        What was done.
    """
    mlflow = connect()
    client = mlflow.tracking.MlflowClient()
    reason = "the first to hold the alias"
    try:
        holder = client.get_model_version_by_alias(name, alias)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code not in (
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        ):  # no such model, no such alias
            message = without_passwords(f"could not query MLflow at {tracking_uri()}: {error}")
            raise UserError(message[:300]) from None
        holder = None
    if holder is not None:
        if holder.run_id == run.id:
            return f"{run.name} is {name}@{alias} already, version {holder.version}"
        held = [other for other in finished_runs() if other.id == holder.run_id]
        if not held:
            raise UserError(
                f"the run of {name}@{alias}, version {holder.version}, is gone, so nothing can be compared; remove "
                "the alias from that version in MLflow, then run this command again"
            )
        reason = beats(held[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version = mlflow.register_model(f"runs:/{run.id}/model", name)
    client.update_model_version(name, version.version, description=reason)
    client.set_registered_model_alias(name, alias, version.version)
    return f"{run.name} is now {name}@{alias}, version {version.version}: {reason}"


def registered_models() -> list[tuple[str, str]]:
    """The address of each alias of a registered model, such as ``models:/vpr@champion``, and its run's id."""
    client = connect().tracking.MlflowClient()
    return [
        (f"models:/{model.name}@{alias}", client.get_model_version(model.name, version).run_id or "")
        for model in client.search_registered_models()
        for alias, version in model.aliases.items()
    ]
