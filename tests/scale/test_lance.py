"""Databases in LanceDB: answers, conditions, and what writers that meet or die leave."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lance_photos import DIM, FACTS, photos
from vpr.commands import main as cli
from vpr.config.errors import UserError
from vpr.data.manifest import DATABASE
from vpr.model.checkpoint import save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.serving.filters import ANYWHERE, Where
from vpr.serving.index import Index
from vpr.serving.lance_index import LanceIndex, open_index

pytest.importorskip("lancedb")
SPEC = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(24, 32))


@pytest.fixture
def both(tmp_path):
    """The same photos in LanceDB and in memory."""
    rows, descriptors = photos(500)
    lance = LanceIndex.create(str(tmp_path / "lance"), FACTS, None, rows, DIM)
    lance.add(rows, descriptors)
    return lance, Index(descriptors, rows, FACTS, None)


@pytest.mark.parametrize(
    "where",
    [ANYWHERE, Where(near=(45.1, 7.65), within_m=3000), Where(since="2019"), Where((45.1, 7.65), 4000, "2020")],
)
def test_exact_answers_are_those_of_faiss(both, where):
    queries = photos(20, seed=1)[1]
    for one, other in zip(both[0].search(queries, 7, where), both[1].search(queries, 7, where), strict=True):
        assert one.images["image"].tolist() == other.images["image"].tolist()
        assert len(one.images) == 7 or not where.is_empty
        np.testing.assert_allclose(one.distances, other.distances, atol=1e-5)
        for column in ("lat", "lon", "utm_east", "heading"):
            np.testing.assert_allclose(one.images[column], other.images[column], atol=1e-9)
        assert one.images["timestamp"].tolist() == other.images["timestamp"].tolist()


def test_a_condition_in_sql_looks_at_columns_of_one_s_own(both):
    found = both[0].search(photos(1, seed=2)[1], 1000, Where(sql="weather = 'rain'"))[0]
    rain = both[1].images.loc[both[1].images["weather"] == "rain", "image"]
    assert set(found.images["image"]) == set(rain)
    with pytest.raises(UserError, match=r"cannot be searched: .*; --where is .*, the columns are \['image'"):
        both[0].search(photos(1)[1], 1, Where(sql="wether = 'rain'"))


def test_photos_are_added_replaced_and_removed(both, tmp_path):
    lance, _ = both
    rows, descriptors = photos(10, first=495, seed=3)
    lance.add(rows.drop(columns="weather"), descriptors)
    assert len(lance) == 505
    nearest = lance.search(descriptors[:1], 1)[0]
    assert (nearest.images["image"].item(), nearest.distances[0]) == ("495.jpg", pytest.approx(0, abs=1e-3))
    assert lance.remove("timestamp < '2019'") == 505 - len(LanceIndex(lance.where))
    assert LanceIndex(lance.where).search(descriptors[:1], 1000)[0].images["timestamp"].min() >= "2019"
    with pytest.raises(UserError, match=r"the photos have the columns \['mood'\]"):
        lance.add(rows.assign(mood="fine"), descriptors)
    with pytest.raises(UserError, match="--where is 'nonsense'"):
        lance.remove("nonsense")


@pytest.mark.parametrize("kind", ["IVF_PQ", "IVF_RQ"])
def test_an_approximate_index_says_what_it_loses_and_takes_more_photos(both, kind):
    lance, _ = both
    made = lance.build_approximate(kind)
    again = open_index(lance.where)
    assert again.approximate == made
    asked = lance._some_descriptors()
    nearest = [set(found.images["image"]) for found in open_index(lance.where, exact=True).search(asked, 10)]
    found = [set(found.images["image"]) for found in again.search(asked, 10)]
    assert np.mean([len(a & b) / 10 for a, b in zip(found, nearest, strict=True)]) == pytest.approx(
        made.found, abs=1e-3
    )
    assert made.found >= 0.95
    rows, descriptors = photos(5, first=9000, seed=5)
    again.add(rows, descriptors)
    assert [found.images["image"].item() for found in again.search(descriptors, 1)] == rows["image"].tolist()
    again.bring_up_to_date()
    assert [found.images["image"].item() for found in again.search(descriptors, 1)] == rows["image"].tolist()


WRITER = """
import sys
sys.path[:0] = {path!r}
from lance_photos import photos
from vpr.serving.lance_index import LanceIndex
index = LanceIndex(sys.argv[1])
for piece in range(int(sys.argv[3])):
    index.add(*photos(50, first=int(sys.argv[2]) + 50 * piece))
    print(piece, flush=True)
"""


def writer(where: str, first: int, pieces: int) -> subprocess.Popen[str]:
    code = WRITER.format(path=[*map(str, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", code, where, str(first), str(pieces)], stdout=subprocess.PIPE, text=True
    )


def test_two_writers_and_a_reader_lose_nothing(both):
    where = both[0].where
    with writer(where, 10_000, 6) as one, writer(where, 20_000, 6) as other:
        seen = [len(LanceIndex(where))]
        while one.poll() is None or other.poll() is None:
            seen.append(len(LanceIndex(where)))
    assert (one.returncode, other.returncode) == (0, 0)
    assert seen == sorted(seen)
    assert all((number - 500) % 50 == 0 for number in seen), "a piece is there whole or not at all"
    assert len(LanceIndex(where)) == 500 + 2 * 6 * 50


@pytest.mark.parametrize("attempt", range(20))
def test_a_killed_writer_leaves_whole_pieces(both, attempt):
    where = both[0].where
    with writer(where, 10_000, 1000) as dying:
        dying.stdout.readline()
        time.sleep(random.Random(attempt).uniform(0, 0.4))
        dying.send_signal(signal.SIGKILL)
        said = [int(line) for line in dying.stdout.read().splitlines()]
    told = 1 + len(said)
    index = LanceIndex(where)
    assert len(index) in (500 + 50 * told, 500 + 50 * (told + 1)), "what was told is there"
    assert len(index.images()) == len(index)
    index.add(*photos(50, first=90_000))
    assert len(index) % 50 == 0


def test_a_database_whose_writer_died_before_its_first_photo_is_begun_again(tmp_path):
    import lancedb

    where = str(tmp_path / "begun")
    lancedb.connect(where).create_table("photos", [{"image": "a"}])
    rows, descriptors = photos(3)
    assert not LanceIndex.is_at(where)
    index = LanceIndex.create(where, FACTS, None, rows, DIM)
    index.add(rows, descriptors)
    assert len(LanceIndex(where)) == 3


def test_what_is_no_index_is_refused(tmp_path):
    with pytest.raises(UserError, match="no index in LanceDB that can be read"):
        LanceIndex(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"no index, descriptors\.npy"):
        open_index(tmp_path)


def test_the_commands_build_ask_add_and_remove(city, tmp_path, monkeypatch, capsys):
    def vpr(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["vpr", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert ended.value.code == code, printed.err
        return printed.out + printed.err

    monkeypatch.chdir(tmp_path)
    checkpoint, database = tmp_path / "model.ckpt", city.part("val", DATABASE)
    save_checkpoint(checkpoint, SPEC, VPRModel(SPEC).state_dict(), {"checkpoint": "best"})
    photos, half = city.folder / "photos.csv", city.folder / "half.csv"
    database.assign(owner="me").to_csv(photos, index=False)
    database.assign(owner="me").head(10).to_csv(half, index=False)
    store = ["--store", "lance", "--out", "index", "--model", checkpoint, "--radius-m", 25]
    assert "10 photos added, 10 in total" in vpr("index", half, *store)
    assert f"{len(database) - 10} photos added, {len(database)} in total" in vpr("index", photos, *store)
    assert "0 photos added" in vpr("index", photos, *store, "--approximate", "IVF_PQ")
    asked = [
        "localize",
        city.folder / database["image"].iloc[0],
        "--index",
        "index",
        "--model",
        checkpoint,
        "--format",
        "json",
    ]
    answer = json.loads(vpr(*asked, "--exact"))[0]
    assert answer["predictions"][0]["image"] == database["image"].iloc[0]
    lat, lon = answer["lat"], answer["lon"]
    near = json.loads(vpr(*asked, "--near", f"{lat},{lon}", "--within", 1, "--num-predictions", 1000))[0]
    at = database[["utm_east", "utm_north"]] - database[["utm_east", "utm_north"]].iloc[0]
    assert len(near["predictions"]) == (np.hypot(at["utm_east"], at["utm_north"]) <= 1).sum()
    assert json.loads(vpr(*asked, "--where", "owner = 'you'"))[0]["known"] is False
    assert "0 photos removed" in vpr("remove", "index", "owner = 'you'")
    assert f"{len(database)} photos removed, 0 are left" in vpr("remove", "index", "owner = 'me'")
    (tmp_path / "of_files").mkdir()
    (tmp_path / "of_files" / "index.json").write_text("{}")
    assert "of_files is an index of files" in vpr("index", half, "--out", "of_files", *store[:2], *store[4:], code=1)
    assert "index is an index in LanceDB; add --store lance" in vpr("index", half, *store[2:], code=1)
    assert "--out s3://b/x needs --store lance" in vpr("index", half, "--out", "s3://b/x", *store[4:], code=1)
    assert "needs --store lance" in vpr("index", half, *store[2:], "--approximate", "IVF_PQ", code=1)
