"""Find a model's checkpoint by name.

Fetched models are kept for all projects in ``$VPR_HOME``, by default ``~/.cache/vpr``.
"""

from __future__ import annotations

import csv
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from vpr.config.did_you_mean import did_you_mean
from vpr.config.errors import UserError
from vpr.published.table import PUBLISHED

REGISTRY, RUN, HUB = "models:/", "runs:/", "hf://"


def home() -> Path:
    """Return the folder of fetched models."""
    return Path(os.environ.get("VPR_HOME") or Path.home() / ".cache" / "vpr").expanduser()


def find_checkpoint(name: str | Path) -> Path:
    """Return the checkpoint of a model, and fetch it first if necessary; see ``vpr.load``.

    Raises:
        UserError: if there is no such model, or it cannot be fetched.
    """
    text = str(name)
    if text.startswith((REGISTRY, RUN)):
        from vpr.experiments.promotion import download_checkpoint

        return download_checkpoint(text)
    if text.startswith(HUB):
        from vpr.published.hub_download import from_hub

        return from_hub(text, home() / "hub")
    if text in PUBLISHED:
        return pull(text)
    if Path(name).is_file():
        return Path(name)
    if (Path(name) / "config.json").is_file():
        from vpr.published.hub_download import from_folder

        return from_folder(Path(name), home() / "hub")
    if Path(name).suffix or "/" in text:
        raise UserError(f"{text}: no such file")
    raise UserError(
        f"{text!r} is neither a file nor a model's name{did_you_mean(text, PUBLISHED)}; `vpr models` lists the names"
    )


def pulled(name: str) -> Path:
    """Return the path of a published model's checkpoint, which exists once the model has been fetched."""
    return home() / "models" / f"{name}.ckpt"


def pull(name: str, mirror: str | None = None, file: Path | None = None) -> Path:
    """Return the checkpoint of a published model, and fetch its weights first if necessary.

    Args:
        name: Name of the model.
        mirror: Another address of the same weights.
        file: Downloaded file of the weights, which replaces a checkpoint from an earlier call.

    Raises:
        UserError: for an unknown name, an address that cannot be fetched, or weights of another model.
    """
    _require_published(name)
    checkpoint = pulled(name)
    if file is not None or not checkpoint.is_file():
        from vpr.published.convert import convert_file
        from vpr.sources.download import fetch_file

        if file is None:
            url = mirror or PUBLISHED[name].url
            file = fetch_file(f"model {name}", url, None, home() / "downloads" / name, home() / "known_hashes.json")
        convert_file(name, file, checkpoint)
    return checkpoint


def _require_published(name: str) -> None:
    if name not in PUBLISHED:
        raise UserError(
            f"{name!r} is not a published model{did_you_mean(name, PUBLISHED)}; `vpr models` lists the names"
        )


def published_recalls(name: str) -> list[dict[str, str]]:
    """Return the rows of ``recalls.csv`` about a model."""
    with files("vpr.published").joinpath("recalls.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["model"] == name]


def facts(name: str) -> dict[str, Any]:
    """Return the properties of a published model in plain types.

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
    """Return the size of a model's descriptors, without building the model."""
    size = name.rpartition("_")[2]
    return int(size) if size.isdigit() else int(PUBLISHED[name].spec.aggregator_options["descriptor_dim"])
