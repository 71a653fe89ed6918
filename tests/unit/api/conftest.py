"""A small model, and photos of the tiny city."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_model import save_small_model
from vpr.data.manifest import DATABASE, Manifest


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("model") / "model.ckpt")


@pytest.fixture(scope="session")
def photos(city: Manifest) -> list[Path]:
    """Photos of the city's database, with their positions in their names."""
    return [city.folder / image for image in city.part("val", DATABASE)["image"]]
