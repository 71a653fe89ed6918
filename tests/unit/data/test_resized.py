"""Copies of training images at the training size."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from vpr.data.images import SUFFIXES, open_pixels
from vpr.data.preprocess import Preprocess
from vpr.data.resized import Resized, copy_of, store_resized

SIZE = (24, 32)


@pytest.fixture
def listed(city):
    """The city's manifest with the hashes that the verify stage adds."""
    return replace(city, rows=city.rows.assign(sha256=[f"{k:064x}" for k in range(len(city.rows))]))


@pytest.fixture
def stored(listed, data_root):
    return store_resized(listed, SIZE, 95, 1)


def test_the_copies_show_what_training_would_have_read(listed, stored):
    images = listed.train()["image"].to_list()
    folder, copies = stored.locate(listed, images)
    for image, copy in zip(images[:10], copies, strict=False):
        kept, read = open_pixels(folder / copy), Preprocess(SIZE).read(listed.folder / image)
        assert kept.shape == read.shape == (3, *SIZE)
        assert (kept.float() - read.float()).abs().mean() < 6, "a JPEG of good quality"


def test_what_is_there_is_not_written_again_and_half_files_are_not_taken(listed, stored):
    folder, copies = stored.locate(listed, listed.train()["image"].to_list())
    before = os.stat(folder / copies[0]).st_mtime_ns  # noqa: PTH116
    (folder / copies[1]).unlink()
    assert store_resized(listed, SIZE, 95, 1) == stored
    assert os.stat(folder / copies[0]).st_mtime_ns == before  # noqa: PTH116
    assert (folder / copies[1]).is_file()
    assert not list(folder.rglob("*.part"))


def test_another_size_quality_or_image_has_copies_of_its_own(listed, stored):
    changed = replace(listed, rows=listed.rows.assign(sha256="0"))
    others = [store_resized(*each, 1) for each in ((listed, (24, 40), 95), (listed, SIZE, 90), (changed, SIZE, 95))]
    assert len({stored.root, *(other.root for other in others)}) == 4


def test_without_copies_the_images_themselves_are_read(city, tmp_path):
    Resized().save(tmp_path / "resized.json")
    folder, images = Resized.load(tmp_path / "resized.json").locate(city, np.array(["a.png", "b.jpg"], dtype=object))
    assert (folder, images) == (city.folder, ["a.png", "b.jpg"])


def test_no_two_images_share_a_copy():
    suffixes = ["", *sorted(SUFFIXES), ".JPG", ".Jpeg"]
    names = {f"a{first}{second}" for first in suffixes for second in suffixes}
    assert len({copy_of(name) for name in names}) == len(names)
    assert all(copy_of(name).endswith(".jpg") for name in names)
