"""The training settings of the embedded city, with changes."""

from __future__ import annotations

from typing import Any

from scratch_project import ROOT
from vpr.config.params import Params
from vpr.training.params import TrainParams, merge_train


def training_settings(**changes: Any) -> TrainParams:
    """Return the settings of params.yaml with some of them changed, and checked again."""
    settings = merge_train(Params.read(ROOT / "params.yaml"), "synthetic")
    assert settings is not None
    return TrainParams(**{**settings.model_dump(), **changes})
