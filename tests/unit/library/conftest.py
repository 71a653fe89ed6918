"""A small model, and photos of the tiny city."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vpr.data.manifest import DATABASE, Manifest
from vpr.model.checkpoint import save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

SPEC = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(24, 32))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    configuration = {
        "dataset": {"name": "synthetic"},
        "backbone": {"name": "resnet18"},
        "agg": {"name": "gem"},
        "loss": {"name": "NTXentLoss"},
        "miner": {"name": "none"},
        "train": {"seed": 3},
    }
    save_checkpoint(path, SPEC, VPRModel(SPEC).state_dict(), {"configuration": configuration, "epoch": 2})
    return path


@pytest.fixture(scope="session")
def photos(city: Manifest) -> list[Path]:
    """Photos of the city's database, with their positions in their names."""
    return [city.folder / image for image in city.part("val", DATABASE)["image"]]
