"""Models by name: where each of them is had from, and what it is.

What is fetched is kept in ``$VPR_HOME``, by default ``~/.cache/vpr``, for all projects.
"""

from __future__ import annotations

import csv
import difflib
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from vpr.api.published import PUBLISHED, convert_file
from vpr.config.errors import UserError
from vpr.config.project import find_project

REGISTRY, RUN, HUB = "models:/", "runs:/", "hf://"


def home() -> Path:
    """Where fetched models are kept."""
    return Path(os.environ.get("VPR_HOME") or Path.home() / ".cache" / "vpr").expanduser()


def find_checkpoint(name: str | Path) -> Path:
    """The checkpoint of a model, fetched where it is not there yet; see ``vpr.load``.

    Raises:
        UserError: if there is no model of that name, or it can't be fetched.
    """
    text = str(name)
    if text.startswith((REGISTRY, RUN)):
        return _from_mlflow(text)
    if text.startswith(HUB):
        from vpr.api.hub import from_hub

        return from_hub(text, home() / "hub")
    if text in PUBLISHED:
        return pull(text)
    if Path(name).is_file():
        return Path(name)
    if (Path(name) / "config.json").is_file():
        from vpr.api.hub import from_folder

        return from_folder(Path(name), home() / "hub")
    if Path(name).suffix or "/" in text:
        raise UserError(f"{text}: no such file")
    near = difflib.get_close_matches(text, PUBLISHED, n=3)
    meant = f"; did you mean {' or '.join(near)}?" if near else ";"
    raise UserError(f"{text!r} is neither a file nor the name of a model{meant} `vpr models` lists the names")


def pulled(name: str) -> Path:
    """Where the checkpoint of a published model is, once it has been fetched."""
    return home() / "models" / f"{name}.ckpt"


def pull(name: str, mirror: str | None = None) -> Path:
    """Fetch a published model, if it has not been, and write its checkpoint.

    Args:
        mirror: another address of the same weights; ``file://`` for a copy on the disk.

    Raises:
        UserError: for an unknown name, an address that can't be fetched, or a file that is not that model.
    """
    _require_published(name)
    checkpoint = pulled(name)
    if not checkpoint.is_file():
        from vpr.sources.download import fetch_file

        url = mirror or PUBLISHED[name].url
        weights = fetch_file(f"model {name}", url, None, home() / "downloads" / name, home() / "known_hashes.json")
        convert_file(name, weights, checkpoint)
    return checkpoint


def _require_published(name: str) -> None:
    if name not in PUBLISHED:
        near = difflib.get_close_matches(name, PUBLISHED, n=3)
        meant = f"; did you mean {' or '.join(near)}?" if near else ";"
        raise UserError(f"{name!r} is no published model{meant} `vpr models` lists them")


def published_recalls(name: str) -> list[dict[str, str]]:
    """Rows of ``published.csv`` of a model."""
    with files("vpr.api").joinpath("published.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["model"] == name]


def facts(name: str) -> dict[str, Any]:
    """What is known of a published model, in plain types.

    Raises:
        UserError: for an unknown name.
    """
    _require_published(name)
    published = PUBLISHED[name]
    spec, checkpoint = published.spec, pulled(name)
    return {
        "name": name,
        "backbone": spec.backbone,
        "aggregator": spec.aggregator,
        "descriptor_dim": descriptor_dim_of(name),
        "image_size": "×".join(map(str, spec.image_size)),
        "trained_on": published.trained_on,
        "licence": published.licence,
        "source": published.source,
        "weights": published.url,
        "checkpoint": str(checkpoint) if checkpoint.is_file() else "not fetched",
    }


def descriptor_dim_of(name: str) -> int:
    """The numbers of a descriptor, which a published name ends with."""
    size = name.rpartition("_")[2]
    return int(size) if size.isdigit() else int(PUBLISHED[name].spec.aggregator_options["descriptor_dim"])


def _from_mlflow(address: str) -> Path:
    """The checkpoint of a registered model, or of a run."""
    from vpr.experiments.store import connect, tracking_uri, without_passwords

    if find_project(Path.cwd()) is None and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UserError(f"{address}: go to the project, or set MLFLOW_TRACKING_URI to the store that has it")
    try:
        mlflow = connect()
    except ModuleNotFoundError:
        raise UserError(f"{address}: MLflow is not installed; pip install 'vpr[pipeline]'") from None
    wanted = address if address.startswith(REGISTRY) else f"{address.rstrip('/')}/model"
    try:
        folder = Path(mlflow.artifacts.download_artifacts(wanted))
    except Exception as error:  # of many kinds, those of its servers included
        reason = without_passwords(f"{address} is not in MLflow at {tracking_uri()}: {error}")
        raise UserError(" ".join(reason.split())[:300]) from None
    found = sorted(folder.glob("artifacts/*.ckpt"))
    if len(found) != 1:
        raise UserError(f"{address}: not a model that `dvc repro` recorded: it holds {len(found)} checkpoints")
    return found[0]
