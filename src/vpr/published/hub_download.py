"""Fetch models of this project from the Hugging Face Hub: ``vpr.load("hf://owner/name")``.

A repository holds the weights as ``model.safetensors``, everything else that the model needs as ``config.json``, and a
model card. ``vpr push`` writes such a repository.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from vpr.config.errors import UserError, one_line
from vpr.model.checkpoint import model_of, save_checkpoint

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
PREFIX = "hf://"


def from_hub(address: str, folder: Path) -> Path:
    """Return the checkpoint of a model on the hub, and fetch it first if necessary.

    Args:
        address: ``hf://owner/name``, optionally with ``@revision``; by default the newest revision.
        folder: Folder of converted checkpoints.

    Raises:
        UserError: if the model cannot be fetched, or is not one of this project.
    """
    name, _, revision = address.removeprefix(PREFIX).partition("@")
    download = require_hub().snapshot_download
    try:
        fetched = Path(download(name, revision=revision or None, allow_patterns=[WEIGHTS, CONFIG]))
    except Exception as error:  # the library raises many kinds
        raise UserError(f"{address}: cannot be fetched: {one_line(error)}") from None
    checkpoint = folder / name / f"{fetched.name}.ckpt"  # the folder of a snapshot is named by its commit
    if not checkpoint.is_file():
        write_checkpoint(fetched, checkpoint)
    return checkpoint


def from_folder(folder: Path, kept: Path) -> Path:
    """Return the checkpoint of a folder that ``vpr push --folder`` wrote.

    Args:
        folder: The folder.
        kept: Folder of converted checkpoints.

    Raises:
        UserError: if the folder does not hold a model of this project.
    """
    content = b"".join((folder / name).read_bytes() for name in (CONFIG, WEIGHTS) if (folder / name).is_file())
    checkpoint = kept / "folders" / f"{hashlib.sha256(content).hexdigest()}.ckpt"
    if not checkpoint.is_file():
        write_checkpoint(folder, checkpoint)
    return checkpoint


def require_hub() -> Any:
    """Return the module ``huggingface_hub``.

    Raises:
        UserError: if it is not installed.
    """
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise UserError("the Hugging Face Hub needs an additional package: pip install 'vpr[hub]'") from None
    return huggingface_hub


def write_checkpoint(folder: Path, checkpoint: Path) -> None:
    """Convert a folder of the hub to a checkpoint.

    Raises:
        UserError: if the folder does not hold a model of this project.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: {' and '.join(missing)} missing, so `vpr push` did not write this model")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        content = {
            "format": config["vpr_format"],
            "spec": config["spec"],
            "metadata": config["metadata"],
            "state_dict": load_file(folder / WEIGHTS),
        }
    except (ValueError, LookupError, TypeError, RecursionError, SafetensorError) as error:
        raise UserError(f"{folder}: not a model that `vpr push` wrote: {error}") from None
    model, metadata = model_of(folder / CONFIG, content)
    save_checkpoint(checkpoint, model.spec, model.state_dict(), metadata)
