"""Load a trained model by its path or name: ``vpr.load``."""

from __future__ import annotations

from pathlib import Path

import torch

from vpr.descriptors.trained_model import Model
from vpr.published.find_model import find_checkpoint


def load(name: str | Path, device: str | torch.device = "auto") -> Model:
    """Load a trained model.

    Args:
        name: Path of a checkpoint; a name of ``vpr models``, such as ``megaloc``, whose weights are fetched once;
            ``hf://owner/name`` of the Hugging Face Hub; ``models:/name@alias`` or ``runs:/id`` of MLflow.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        UserError: if there is no such model, or the file is not a model.
    """
    return Model(find_checkpoint(name), device)
