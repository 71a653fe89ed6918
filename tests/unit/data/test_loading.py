"""Images that are kept decoded are read once, by whichever process comes first."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch

from vpr.data.loading import ImageList, image_loader
from vpr.data.preprocess import Preprocess
from vpr.training.run import keep_decoded

SIZE = (24, 32)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_second_visit_reads_no_file(city, tmp_path, num_workers):
    names = city.train()["image"].to_list()
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(city.folder / name, tmp_path / name)
    images = ImageList(tmp_path, names, Preprocess(SIZE))
    assert images.keep_decoded(10**9, num_workers) == len(names) * 3 * SIZE[0] * SIZE[1]
    first = torch.cat(list(image_loader(images, 4, num_workers)))
    shutil.rmtree(tmp_path)
    again = torch.cat(list(image_loader(images, 5, num_workers)))
    assert again.equal(first)
    assert images.batch([2, 0]).equal(first[[2, 0]])
    assert first.equal(torch.stack([Preprocess(SIZE).read(city.folder / name) for name in names]))


@pytest.mark.parametrize("cache_gb", [None, 1000.0])
def test_all_lists_together_take_no_more_than_half_of_the_free_memory(city, monkeypatch, cache_gb):
    image = 3 * SIZE[0] * SIZE[1]
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2 * 20 * image))
    lists = [ImageList(city.folder, city.train()["image"][:number], Preprocess(SIZE)) for number in (15, 15, 15)]
    keep_decoded(cache_gb, 0, 1, *lists)
    assert [len(images._kept) for images in lists] == [15, 5, 0]


@pytest.mark.parametrize(("room", "kept"), [(0, 0), (3 * 24 * 32 - 1, 0), (2.5 * 3 * 24 * 32, 2)])
def test_no_more_is_kept_than_there_is_room_for(city, room, kept):
    images = ImageList(city.folder, city.train()["image"], Preprocess(SIZE))
    assert images.keep_decoded(room, 0) == kept * 3 * 24 * 32
    assert images[5].equal(Preprocess(SIZE).read(city.folder / images.images[5]))
