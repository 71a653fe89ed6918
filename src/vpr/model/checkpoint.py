"""A model's checkpoint: plain types, so that reading one runs no code."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vpr.config.errors import UserError
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

CHECKPOINT_FORMAT = 1


def save_checkpoint(path: Path, spec: ModelSpec, state_dict: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write a checkpoint of plain types: it loads with ``weights_only=True``.

    Args:
        metadata: what the model was trained with; kept, not interpreted.
    """
    content = {
        "format": CHECKPOINT_FORMAT,
        "spec": asdict(spec),
        "state_dict": {name: value.detach().cpu().contiguous() for name, value in state_dict.items()},
        "metadata": metadata,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(content, part)
    part.replace(path)


def load_checkpoint(path: Path) -> tuple[VPRModel, dict[str, Any]]:
    """A model in evaluation mode, and the metadata it was saved with.

    Raises:
        UserError: if there is no such file, or it is not a checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint; run `dvc repro train` first")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is not a checkpoint fails in many ways
        raise UserError(f"{path}: not a checkpoint of this project: {str(error)[:200]}") from None
    if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
        raise UserError(f"{path}: not a checkpoint of format {CHECKPOINT_FORMAT} of this project")
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content["spec"].items()}
    spec = ModelSpec(**fields)
    model = VPRModel(spec)
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit the model of the checkpoint: {error}") from None
    metadata: dict[str, Any] = content["metadata" if "metadata" in content else "notes"]  # as it was called before
    return model.eval(), metadata
