"""A small model with random weights, as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vpr.localization.confidence import Calibration
from vpr.model.checkpoint import save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.serving.localizer import AnswerOptions, Localizer

SPEC = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(24, 32))
CALIBRATION = Calibration("city", "val", 100, "within 25 m", 20, (0.5, 0.1), (0.1, 0.1), (-1.0, 1.0), 0.0, 1.2)
NAMES = {"dataset": "synthetic", "backbone": "resnet18", "agg": "gem", "loss": "NTXentLoss", "miner": "none"}


def located(localizer: Localizer, name: str, content: bytes, **options: Any) -> dict[str, Any]:
    """Return the answer for a photo in plain types."""
    return localizer.locate_photo(name, content, AnswerOptions(**options)).as_dict()


def save_small_model(path: Path) -> Path:
    torch.manual_seed(0)
    configuration = {key: {"name": name} for key, name in NAMES.items()} | {"train": {"seed": 3}}
    metadata = {"configuration": configuration, "epoch": 2, "checkpoint": "best"}
    save_checkpoint(path, SPEC, VPRModel(SPEC).state_dict(), metadata)
    return path
