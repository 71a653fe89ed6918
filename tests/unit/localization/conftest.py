"""A small model that locates in the tiny city."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from small_model import CALIBRATION, save_small_model
from vpr.data.checksums import file_sha256
from vpr.data.manifest import DATABASE
from vpr.localization.index import Index, IndexFacts
from vpr.localization.localizer import Localizer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("model") / "model.ckpt")


@pytest.fixture(scope="session")
def localizer(city, checkpoint) -> Localizer:
    """Locates in the city's database."""
    rows = city.part("val", DATABASE)
    facts = IndexFacts(file_sha256(checkpoint), "city", "val", 25.0)
    unknown = Index(np.zeros((1, 64), np.float32), rows.head(1), facts, None)
    photos = [Image.open(city.folder / image).convert("RGB") for image in rows["image"]]
    descriptors = Localizer.open(checkpoint, unknown, torch.device("cpu")).describe(photos)
    return Localizer.open(checkpoint, Index(descriptors, rows, facts, CALIBRATION), torch.device("cpu"))
