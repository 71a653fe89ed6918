"""An index folder that is damaged, or was put together by hand, is refused with a sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vpr.config.errors import UserError
from vpr.data.checksums import file_sha256
from vpr.data.manifest import DATABASE
from vpr.descriptors.trained_model import Model
from vpr.localization.confidence import Calibration
from vpr.localization.index_files import IndexFacts
from vpr.model.checkpoint import save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.serving.index import Index
from vpr.serving.localizer import Localizer

CALIBRATION = Calibration("city", "val", 100, "within 25 m", 20, (0.5, 0.1), (0.1, 0.1), (-1.0, 1.0), 0.0, 9.0)


@pytest.fixture
def folder(city, tmp_path) -> Path:
    """A sound index."""
    rows = city.part("val", DATABASE)
    Index(np.eye(len(rows), 64, dtype=np.float32), rows, IndexFacts("sha", "city", "val", 25.0), CALIBRATION).save(
        tmp_path / "index"
    )
    Index.load(tmp_path / "index")
    return tmp_path / "index"


def facts(**changes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "index.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def calibration(**changes) -> Callable[[Path], None]:
    return facts(calibration={**CALIBRATION.as_dict(), **changes})


def text(content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "index.json").write_text(content)


def descriptors(make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(
        folder / "descriptors.npy", make(np.load(folder / "descriptors.npy")), allow_pickle=True
    )


def images(make: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    return lambda folder: make(pd.read_parquet(folder / "images.parquet")).to_parquet(folder / "images.parquet")


DAMAGE = {
    "coordinates beyond everything": (
        images(lambda table: table.assign(utm_north=-1e308)),
        "coordinates are beyond 100,000,000 m",
    ),
    "no json": (text("{"), "Expecting property name"),
    "a list": (text("[]"), "has other keys"),
    "deep json": (text("[" * 100_000), "recursion"),
    "another key": (facts(more=1), "has other keys"),
    "radius is a text": (facts(radius_m="near"), "radius_m: Input should be a valid number"),
    "radius below zero": (facts(radius_m=-1), "radius_m: Input should be greater than 0"),
    "radius without end": (facts(radius_m=float("inf")), "radius_m: Input should be a finite number"),
    "hash is a number": (facts(model_sha256=3), "model_sha256: Input should be a valid string"),
    "calibration is a text": (facts(calibration="good"), "index.json: "),
    "calibration without bias": (facts(calibration={"dataset": "city", "set": "val"}), "num_queries: Field required"),
    "calibration of NaN": (calibration(bias=float("nan")), "bias: Input should be a finite number"),
    "scale of zero": (calibration(scale=[0.0, 1.0]), r"scale\.0: Input should be greater than 0"),
    "no neighbours": (calibration(neighbours=0), "neighbours: Input should be greater than or equal to 1"),
    "fewer descriptors than images": (descriptors(lambda d: d[:5]), "has 5 descriptors for"),
    "descriptors in a row": (descriptors(lambda d: d.ravel()), r"expected \(number, D\) of float32"),
    "descriptors of whole numbers": (descriptors(lambda d: d.astype(int)), r"expected \(number, D\) of float32"),
    "descriptors of objects": (descriptors(lambda d: d.astype(object)), "is not an array of numbers"),
    "descriptors of NaN": (descriptors(lambda d: d * np.float32(np.nan)), "descriptors of unit norm only"),
    "descriptors of any length": (descriptors(lambda d: d * 1e30), "descriptors of unit norm only"),
    "no descriptors": (lambda folder: (folder / "descriptors.npy").write_bytes(b"x"), "is not an array of numbers"),
    "no table": (lambda folder: (folder / "images.parquet").write_bytes(b"x" * 20), "Parquet"),
    "a column is missing": (images(lambda t: t.drop(columns="utm_zone")), r"has no columns \['utm_zone'\]"),
    "positions are texts": (images(lambda t: t.assign(utm_east="east")), "utm_east must hold numbers only"),
    "names are numbers": (images(lambda t: t.assign(image=1)), "image must hold texts only"),
    "places are lists": (images(lambda t: t.assign(place_id=[[1]] * len(t))), "place_id must hold texts only"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_index_is_refused_with_a_sentence(folder, name):
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(UserError, match=f"the index is damaged: .*({message}).*; build it again") as refused:
        Index.load(folder)
    assert str(folder) in str(refused.value)


def test_timestamps_of_an_older_index_become_plain(folder):
    written = ["2021-07-15", "+00000000000000000012.500000", "garbage", "1626352200"]
    images(lambda t: t.assign(timestamp=[*written, *[""] * (len(t) - 4)]))(folder)
    assert Index.load(folder).images["timestamp"].tolist()[:4] == ["20210715", written[1], "", "20210715123000"]


def test_an_index_of_descriptors_of_another_size_is_refused(city, tmp_path):
    spec = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(24, 32))
    save_checkpoint(tmp_path / "m.ckpt", spec, VPRModel(spec).state_dict(), {})
    rows = city.part("val", DATABASE)
    index = Index(
        np.eye(len(rows), 32, dtype=np.float32), rows, IndexFacts(file_sha256(tmp_path / "m.ckpt"), "", "", 25.0), None
    )
    with pytest.raises(UserError, match=r"descriptors of 32 numbers, .* of 64; build the index again"):
        Localizer(Model(tmp_path / "m.ckpt", "cpu"), index)


def test_a_full_disk_is_named_before_descriptors_are_written(city, small_disk):
    rows = city.part("val", DATABASE)
    index = Index(np.zeros((len(rows), 100_000), np.float32), rows, IndexFacts("sha", "city", "val", 25.0), None)
    with pytest.raises(OSError, match="No space left on device"):
        index.save(Path(os.environ["DATA_ROOT"]) / "index")
