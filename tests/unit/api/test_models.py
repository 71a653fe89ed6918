"""``import vpr``: a model and an index from Python."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vpr
from scratch_project import ROOT

NO_DEPENDENCY = (
    "lightning",
    "mlflow",
    "dvc",
    "pytorch_metric_learning",
    "scipy",
    "sklearn",
    "numba",
    "matplotlib",
    "h5py",
)


@pytest.fixture(scope="module")
def model(checkpoint) -> vpr.Model:
    return vpr.load(checkpoint, "cpu")


def test_paths_images_arrays_and_tensors_of_a_photo_have_one_descriptor(model, photos):
    image = Image.open(photos[0]).convert("RGB")
    pixels = np.array(image)
    given = [photos[0], str(photos[0]), image, pixels, torch.from_numpy(pixels).permute(2, 0, 1)]
    found = model.describe(given)
    assert found.shape == (5, model.descriptor_dim)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, np.repeat(found[:1], 5, axis=0), atol=1e-6)
    for one in given:
        np.testing.assert_allclose(model.describe(one), found[:1], atol=1e-6)
    np.testing.assert_allclose(model.describe(np.stack([pixels, pixels]), batch_size=1), found[:2], atol=1e-6)


def test_descriptors_are_those_of_the_network(model, photos):
    size = model.image_size[::-1]
    resized = [np.array(Image.open(p).convert("RGB").resize(size, Image.Resampling.BILINEAR)) for p in photos[:3]]
    batch = torch.stack([torch.from_numpy(pixels).permute(2, 0, 1) for pixels in resized])
    with torch.inference_mode():
        np.testing.assert_allclose(model.describe(photos[:3], batch_size=2), model.network(batch).numpy(), atol=2e-3)


def test_a_device_that_is_not_there_is_refused(checkpoint):
    assert vpr.load(checkpoint, "cpu").device.type == "cpu"
    for wrong in ("nowhere", "cuda:99"):
        with pytest.raises(vpr.UserError, match=f"device is '{wrong}'"):
            vpr.load(checkpoint, wrong)


def test_nothing_has_no_descriptor(model):
    assert model.describe([]).shape == (0, model.descriptor_dim)


@pytest.mark.parametrize(
    "wrong", [7, [7], np.zeros((4, 4)), [np.zeros((4, 4, 3))], torch.zeros(3, 4, 4), [torch.zeros((4, 4, 3)).byte()]]
)
def test_what_is_no_image_is_refused(model, wrong):
    with pytest.raises(TypeError, match=r"image"):
        model.describe(wrong)


def test_a_photo_that_can_not_be_read_is_named(model, tmp_path):
    with pytest.raises(vpr.UserError, match=r"gone\.jpg"):
        model.describe(tmp_path / "gone.jpg")


def test_an_index_is_built_searched_saved_and_added_to(model, photos, tmp_path):
    for name, some in (("one", photos[:6]), ("two", photos[6:9])):
        (tmp_path / name).mkdir()
        for photo in some:
            shutil.copy(photo, tmp_path / name)
    index = vpr.Index.build(tmp_path / "one", model)
    both = index.add(vpr.Index.build(tmp_path / "two", model))
    assert (len(index), len(both)) == (6, 9)
    both.save(tmp_path / "index")
    again = vpr.Index.load(tmp_path / "index")
    for k, photo in enumerate(photos[:9]):
        (found,) = again.search(model.describe(photo), 2)
        assert found.images["image"].iloc[0] == photo.name, k
        assert found.distances[0] == pytest.approx(0, abs=1e-3)
        assert found.distances[0] <= found.distances[1]
    with pytest.raises(vpr.UserError, match="are in both indexes, such as "):
        both.add(index)
    again.save(tmp_path / "index")
    np.testing.assert_array_equal(vpr.Index.load(tmp_path / "index").descriptors, both.descriptors)
    (answer,) = vpr.localize(photos[4], model, again, num_predictions=3)
    assert answer.predictions[0].image == photos[4].name
    assert answer.photo == str(photos[4])
    assert answer.lat is not None
    json.dumps(answer.as_dict(), allow_nan=False)


def test_an_index_of_descriptors_that_are_there(model, photos, checkpoint, tmp_path):
    names, descriptors = [photo.name for photo in photos[:4]], model.describe(photos[:4])
    index = vpr.Index.of(names, descriptors, model, lat=[45.0, 45.1, 45.2, 45.3], lon=[9.0] * 4)
    answer = vpr.localize(photos[2], model, index)[0]
    assert (answer.lat, answer.lon) == pytest.approx((45.2, 9.0), abs=1e-6)
    plain = vpr.localize(photos[2], model, vpr.Index.of(names, descriptors, model))[0]
    assert plain.lat is None
    assert plain.predictions[0].image == names[2]
    with pytest.raises(vpr.UserError, match="must have the same length"):
        vpr.Index.of(names, descriptors[:3], model)
    with pytest.raises(vpr.UserError, match=r"lat 45\.0, lon 200\.0"):
        vpr.Index.of(names[:1], descriptors[:1], model, lat=[45.0], lon=[200.0])
    other = tmp_path / "other.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"metadata": {"of": "another"}}, other)
    with pytest.raises(vpr.UserError, match="was described by another model"):
        vpr.localize(photos[0], vpr.load(other, "cpu"), index)


def test_a_name_that_is_none_is_refused_with_what_was_meant(tmp_path):
    with pytest.raises(vpr.UserError, match="did you mean 'megaloc'"):
        vpr.load("megalock")
    with pytest.raises(vpr.UserError, match=r"gone\.ckpt: no such file"):
        vpr.load(tmp_path / "gone.ckpt")


def test_importing_touches_nothing_and_a_model_needs_few_packages(checkpoint, photos, tmp_path):
    """In a process that has only the packages which ``pip install vpr`` brings."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    code = f"""
import sys, time
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NO_DEPENDENCY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
start, before = time.perf_counter(), set(sys.modules)
import vpr
print(time.perf_counter() - start, sorted(n for n in set(sys.modules) - before if n.startswith("vpr.")))
model = vpr.load({str(checkpoint)!r})
index = vpr.Index.build({str(photos[0].parent)!r}, model)
print(vpr.localize({str(photos[0])!r}, model, index)[0].predictions[0].image)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, last = done.stdout.splitlines()
    assert float(first.split()[0]) < 2
    assert first.endswith("[]"), "nothing of vpr is imported before it is used"
    assert last == photos[0].name
    assert not list(tmp_path.iterdir())
    names = {line.partition(">")[0] for line in declared}
    assert {"torch", "faiss-cpu", "numpy", "pillow"} <= names
    assert not names & {name.replace("_", "-") for name in NO_DEPENDENCY}


def test_what_is_public_is_there():
    assert set(vpr.__all__) <= set(dir(vpr))
    for name in vpr.__all__:
        assert getattr(vpr, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vpr.nothing
    assert (Path(vpr.__file__).parent / "py.typed").is_file()
