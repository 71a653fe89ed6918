"""Files for other tools: maps, tables, hloc."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from vpr.api.hloc import check_pair_names, describe_photos, nearest_pairs, photo_names, write_descriptors, write_pairs
from vpr.config.errors import UserError
from vpr.data.loading import ImageList
from vpr.data.manifest import DATABASE
from vpr.descriptors.trained_model import Model
from vpr.model.checkpoint import save_checkpoint
from vpr.model.describing import Describer
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.serving.answers import Answer, Prediction
from vpr.serving.formats import FORMATS

LOCATED = Answer(
    "=a/b&c.jpg", True, 49.892701, 13.899512, 420956.66, 5527281.46, "33U", None, 0.36, "within 25 m",
    predictions=(Prediction("x.jpg", 49.8927, 13.8995, 420956.0, 5527281.0, "33U", None, 1.001, 0.499),),
)  # fmt: skip
ANSWERS = [LOCATED, replace(LOCATED, photo="doubtful.jpg", known=False), Answer("broken.jpg", error="not an image")]


def test_maps_show_the_photos_whose_place_is_known():
    collection = json.loads(FORMATS["geojson"](ANSWERS))
    (feature,) = collection["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [13.899512, 49.892701]}
    assert feature["properties"]["photo"] == "=a/b&c.jpg"
    assert feature["properties"]["first_prediction"] == "x.jpg"
    root = ElementTree.fromstring(FORMATS["gpx"](ANSWERS))
    space = "{http://www.topografix.com/GPX/1/1}"
    (point,) = root.findall(f"{space}wpt")
    assert (float(point.get("lat")), float(point.get("lon"))) == (49.892701, 13.899512)
    assert point.find(f"{space}name").text == "=a/b&c.jpg"
    assert point.find(f"{space}desc").text == "36% likely to be within 25 m"


def test_a_table_has_a_row_for_each_photo_and_no_formula():
    table = pd.read_csv(io.StringIO(FORMATS["csv"](ANSWERS)))
    assert table["photo"].tolist() == ["'=a/b&c.jpg", "doubtful.jpg", "broken.jpg"]
    assert table["error"].tolist()[2] == "not an image"
    assert table["lat"].iloc[0] == 49.892701
    written = json.loads(FORMATS["json"](ANSWERS))
    assert [answer["photo"] for answer in written] == ["=a/b&c.jpg", "doubtful.jpg", "broken.jpg"]
    assert set(written[0]) == {
        "photo", "known", "lat", "lon", "utm_east", "utm_north", "utm_zone", "place_id", "confidence",
        "confidence_means", "confidence_note", "predictions",
    }  # fmt: skip
    assert written[2] == {"photo": "broken.jpg", "error": "not an image"}


def test_hloc_reads_the_descriptors_under_the_image_s_name(city, tmp_path):
    spec = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(24, 32))
    torch.manual_seed(0)
    model = VPRModel(spec).eval()
    save_checkpoint(tmp_path / "model.ckpt", spec, model.state_dict(), {})
    names = photo_names(city.folder / "val")
    descriptors = describe_photos(city.folder / "val", names, Model(tmp_path / "model.ckpt", "cpu"))
    write_descriptors(tmp_path / "out/features.h5", names, descriptors)
    found = []
    with h5py.File(tmp_path / "out/features.h5", "r") as file:  # as its list_h5_names and its retrieval do
        file.visititems(
            lambda _, obj: found.append(obj.parent.name.strip("/")) if isinstance(obj, h5py.Dataset) else None
        )
        read = {name: file[name]["global_descriptor"].__array__() for name in found}
    assert sorted(found) == sorted(names)
    rows = city.part("val", DATABASE)["image"].to_list()
    expected = np.empty((len(rows), model.descriptor_dim), np.float32)
    Describer(model, torch.device("cpu")).describe(ImageList(city.folder, rows, spec.preprocess()), expected, 8)
    for image, descriptor in zip(rows, expected, strict=True):
        assert np.allclose(read[image.removeprefix("val/")], descriptor, atol=1e-6)


def test_pairs_are_the_nearest_and_no_image_is_its_own(tmp_path):
    angle = np.radians([0, 10, 25, 90])
    descriptors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    queries = (["a", "b", "c", "d"], descriptors)
    assert nearest_pairs(queries, None, 2) == [
        ("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "b"), ("c", "a"), ("d", "c"), ("d", "b"),
    ]  # fmt: skip
    found = nearest_pairs((["q"], descriptors[1:2]), queries, 2)
    assert found == [("q", "b"), ("q", "a")]
    write_pairs(tmp_path / "pairs.txt", found)
    lines = (tmp_path / "pairs.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert [tuple(line.split()) for line in lines] == found
    with pytest.raises(UserError, match="separates names by a space"):
        check_pair_names(["c", "a b"])


def test_names_that_hdf5_has_no_place_for_are_named(tmp_path):
    with pytest.raises(UserError, match="cannot be a name in HDF5"):
        write_descriptors(tmp_path / "x.h5", ["a.jpg", "a.jpg"], np.zeros((2, 3), np.float32))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="no such folder"):
        photo_names(tmp_path / "none")


def test_names_with_control_characters_are_valid_xml_and_steer_no_terminal():
    odd = replace(ANSWERS[0], photo="a\x1b[31m\x00\x0b.jpg")
    root = ElementTree.fromstring(FORMATS["gpx"]([odd]))
    assert "a\\x1b[31m\\x00\\x0b.jpg" in {element.text for element in root.iter()}
    assert "\x1b" not in FORMATS["text"]([odd])
    assert json.loads(FORMATS["json"]([odd]))[0]["photo"] == odd.photo
