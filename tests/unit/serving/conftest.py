"""A small model that locates in the tiny city."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_model import CALIBRATION, save_small_model
from vpr.data.manifest import DATABASE
from vpr.descriptors.trained_model import Model
from vpr.localization.index_files import IndexFacts
from vpr.serving.index import Index
from vpr.serving.localizer import Localizer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("model") / "model.ckpt")


@pytest.fixture(scope="session")
def localizer(city, checkpoint) -> Localizer:
    """Locates in the city's database."""
    rows = city.part("val", DATABASE)
    model = Model(checkpoint, "cpu")
    facts = IndexFacts(model.sha256, "city", "val", 25.0)
    descriptors = model.describe([city.folder / image for image in rows["image"]])
    return Localizer(model, Index(descriptors, rows, facts, CALIBRATION))
