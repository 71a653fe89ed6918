"""Checkpoints of models. They hold plain types only, so that reading one runs no code."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vpr.config.atomic_files import atomic_write
from vpr.config.errors import UserError, one_line
from vpr.data.plain_values import require_plain
from vpr.model.allocations import GIB, limited_allocations
from vpr.model.backbones.weights import is_state_dict, read_tensors
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

CHECKPOINT_FORMAT = 1


def save_checkpoint(path: Path, spec: ModelSpec, state_dict: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write a checkpoint of plain types, which loads with ``weights_only=True``.

    Args:
        path: File to write.
        spec: Specification of the model.
        state_dict: Weights of the model.
        metadata: Settings that the model was trained with; they are kept, not interpreted.
    """
    content = {
        "format": CHECKPOINT_FORMAT,
        "spec": asdict(spec),
        "state_dict": {name: value.detach().cpu().contiguous() for name, value in state_dict.items()},
        "metadata": metadata,
    }
    serialised = io.BytesIO()  # on a full disk, torch's own writer hides the reason
    torch.save(content, serialised)
    with atomic_write(path) as part:
        part.write_bytes(serialised.getbuffer())


def load_checkpoint(path: Path) -> tuple[VPRModel, dict[str, Any]]:
    """Read a model in evaluation mode, and the metadata it was saved with.

    Raises:
        UserError: if the file is missing, or is not a complete checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint; run `dvc repro train` first")
    try:
        content = read_tensors(path)
    except Exception as error:  # other files fail in many ways
        raise UserError(f"{path}: not a checkpoint of this project: {one_line(error, 200)}") from None
    return model_of(path, content)


def model_of(path: Path, content: Any) -> tuple[VPRModel, dict[str, Any]]:
    """Build the model of a checkpoint's content, in evaluation mode, and return it with its metadata.

    Args:
        path: File that the content comes from, for messages.
        content: Content of the file.

    Raises:
        UserError: if it is not a complete checkpoint of this project.
    """
    form = content.get("format") if isinstance(content, dict) else None
    if not isinstance(form, int) or form != CHECKPOINT_FORMAT:
        raise UserError(f"{path}: not a checkpoint of format {CHECKPOINT_FORMAT} of this project")
    try:
        spec = ModelSpec.from_dict(content.get("spec"))
    except ValueError as error:
        raise UserError(f"{path}: the checkpoint does not say what the model is: spec: {error}") from None
    state = _tensors(path, content.get("state_dict"))
    try:
        # Cropped stages are built too before they are dropped, so a model may need more than its weights.
        with limited_allocations(2 * GIB + 4 * sum(value.untyped_storage().nbytes() for value in state.values())):
            model = VPRModel(spec)
        model.load_state_dict(state)
    except (UserError, RuntimeError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise UserError(f"{path}: the checkpoint's weights do not fit its model: {one_line(error)}") from None
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise UserError(f"{path}: the weights {name!r} are not all finite numbers")
    _require_descriptor(path, model.eval())
    return model, _metadata(path, content)


def _require_descriptor(path: Path, model: VPRModel) -> None:
    """Refuse weights that are finite, but with which a model describes nothing, such as a negative variance."""
    noise = torch.randint(0, 256, (1, 3, *model.spec.image_size), generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            descriptor = model(noise.to(torch.uint8))
    except RuntimeError as error:
        raise UserError(f"{path}: the model cannot describe an image: {one_line(error)}") from None
    if not descriptor.isfinite().all():
        raise UserError(
            f"{path}: the model's descriptor of an image is not finite, although its weights are; they are damaged, or "
            "mean and std do not suit them"
        )


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    """Return the weights by name."""
    if state and is_state_dict(state):
        return state
    raise UserError(f"{path}: the checkpoint has no weights: state_dict is not a mapping of names to tensors")


def _metadata(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    metadata = content.get("metadata", content.get("notes"))  # older checkpoints call it notes
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: the checkpoint does not say what the model was trained with: metadata is missing")
    try:
        require_plain(metadata)
    except ValueError as error:
        raise UserError(f"{path}: the checkpoint's metadata holds {error}; expected texts, numbers and lists") from None
    return metadata
