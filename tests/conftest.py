"""Small data for all tests: drawn, never downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpr.datasets import synthetic
from vpr.datasets.manifest import Manifest
from vpr.params import SyntheticParams

SHARED = Path(__file__).parents[2] / "shared" / "data"

TINY_CITY = {
    "seed": 3,
    "width": 48,
    "height": 36,
    "train_cities": 2,
    "train_places": 8,
    "images_per_place": [3, 4],
    "blocks": 2,
    "database_spacing_m": 30.0,
    "database_headings": 2,
    "num_queries": 6,
    "variety": 0.4,
    "night": 0.1,
    "night_queries": 0.8,
    "query_heading_sd_deg": 8.0,
    "years": [2010, 2020],
}


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image folder of the test's own."""
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "images"))
    return tmp_path / "images"


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The tiny city's listing, its images on the disk; the root is absolute, whatever DATA_ROOT is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_ROOT", str(tmp_path_factory.mktemp("city")))
        listing = synthetic.obtain(SyntheticParams(**TINY_CITY))
        return Manifest(listing.name, str(listing.folder), listing.rows)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data beside the checkout, where it is there."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    return SHARED
