"""Images that the device decodes: here on the CPU, by the same calls."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from vpr.config.errors import UserError
from vpr.data.encoded import EncodedImages
from vpr.data.preprocess import Preprocess

SIZE, CPU = (24, 32), torch.device("cpu")


@pytest.fixture
def paths(city, tmp_path):
    """JPEGs of two sizes, and a PNG."""
    images = [city.folder / image for image in city.train()["image"].head(3)]
    Image.open(images[0]).resize((90, 70)).save(tmp_path / "other.jpg")
    Image.open(images[1]).save(tmp_path / "lossless.png")
    return [*images, tmp_path / "other.jpg", tmp_path / "lossless.png"]


def test_the_pixels_are_those_that_the_loader_would_have_sent(paths):
    encoded = EncodedImages.read(paths)
    assert [length > 0 for length in encoded.lengths] == [True, True, True, True, False]
    decoded = encoded.decode(SIZE, CPU)
    sent = torch.stack([Preprocess(SIZE).read(path) for path in paths])
    assert decoded.dtype == torch.uint8
    assert (decoded.int() - sent.int()).abs().max() <= 1


def test_an_image_that_is_broken_behind_its_header_is_named(paths, tmp_path):
    (tmp_path / "half.jpg").write_bytes(paths[0].read_bytes()[:700])
    with pytest.raises(UserError, match=r"half\.jpg: cannot be read as an image"):
        EncodedImages.read([paths[0], tmp_path / "half.jpg"]).decode(SIZE, CPU)
    with pytest.raises(UserError, match=r"gone\.jpg"):
        EncodedImages.read([tmp_path / "gone.jpg"])
