"""Published sets: their layouts, counts, filters and ground truths."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vpr.config.errors import UserError
from vpr.data.manifest import (
    DATABASE,
    QUERY,
    TRAIN,
    Manifest,
    make_manifest,
    read_manifest,
    set_manifest,
    write_manifest,
    write_parts,
)
from vpr.evaluation.evaluation import evaluate_ranking
from vpr.retrieval.positives import positive_rule, positives_of
from vpr.sources.base import Context
from vpr.sources.catalogue import SourceParams, load_sources
from vpr.sources.cells import CellParams
from vpr.sources.collection import CollectionParams, collect
from vpr.sources.ground_truth import natural_order, read_ground_truth
from vpr.sources.image_files import list_images
from vpr.sources.layouts import find_folder, read_gsv_cities, read_image_lists, read_standard
from vpr.sources.standard_naming import format_name, parse_name
from vpr.verification.checks import verify

ROOT = Path(__file__).parents[3]
ZONE = (32, "T")


def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), (seed % 256, seed // 256 % 256, 7)).save(out, "JPEG", comment=str(seed).encode())
    return out.getvalue()


def put(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def name(k: int, east: float = 0.0, note: str = "", month: str = "201907") -> str:
    return format_name(500_000 + east, 4_900_000, ZONE, f"p{k}", 90, month, note)


@pytest.fixture
def gsv(tmp_path):
    """Two cities in GSV-Cities XS's layout, whose place numbers repeat."""
    k = 0
    for city in ("Rome", "OSL"):
        for place in range(10):
            for month in ("201207", "201507", "201907"):
                k += 1
                put(
                    tmp_path / f"gsv/gsv_xs/train/{city.lower()}" / name(k, 200 * place, f"{place}_{city}", month),
                    jpeg(k),
                )
    return tmp_path / "gsv"


@pytest.fixture
def sf(tmp_path):
    """An evaluation set in the standard layout; the last query has no positive."""
    for k in range(4):
        put(tmp_path / "sf/sf_xs/val/database" / name(k, 30 * k), jpeg(1000 + k))
    for k in range(3):
        put(tmp_path / "sf/sf_xs/val/queries" / name(10 + k, 1000 * (k == 2)), jpeg(2000 + k))
    return tmp_path / "sf"


def collected(gsv: Path, sf: Path, tmp_path: Path, **changes):
    params = {
        "train": ["gsv"],
        "eval_sets": {"val": "sf"},
        "cities": None,
        "dates": None,
        "share_of_places": 1.0,
        "shares": None,
        "places": None,
    }
    sources = {
        "gsv": SourceParams(
            url=f"file://{gsv}", layout="gsv_xs", folder="train", expected={"images": 60, "places": [15, 25]}
        ),
        "sf": SourceParams(url=f"file://{sf}", layout="standard", folder="val", expected={"database": 4, "queries": 3}),
    }
    return collect(
        "gsv_xs",
        CollectionParams(**params | {"seed": 1} | changes),
        sources,
        Context(known_hashes=tmp_path / "known.json"),
    )


def verified(listing: Manifest) -> Manifest:
    """Checked, and with the root that the download stage gives every listing."""
    return replace(verify(listing, 25.0, 1).manifest, root="file:data/images_root.txt")


def test_training_and_evaluation_sets_become_one_listing(gsv, sf, tmp_path, data_root):
    listing = collected(gsv, sf, tmp_path)
    train = listing.train()
    assert (len(train), train["place_id"].nunique()) == (60, 20)
    assert sorted(set(train["place_id"]))[:2] == ["gsv/osl/0", "gsv/osl/1"]
    assert set(train["city"]) == {"rome", "osl"}
    assert (len(listing.part("val", DATABASE)), len(listing.part("val", QUERY))) == (4, 3)
    assert train["image"][0].startswith("gsv/osl/@")
    assert listing.metadata["sources"]["gsv"]["found"] == {
        "images": 60,
        "places": 20,
        "cities": 2,
        "city_names": ["osl", "rome"],
    }
    checked = verify(listing, 25.0, num_workers=1)
    assert checked.differences == []
    assert checked.problems["problem"].tolist() == ["a query without any positive in its database"]
    assert checked.statistics["cities"]["rome"] == {"num_images": 30, "num_places": 10}
    assert checked.statistics["num_left_out"] == 0


def test_a_source_from_elsewhere_gives_the_same_manifest(gsv, sf, tmp_path, data_root):
    """A mirror, or an archive instead of a folder, must not train anew."""
    write_parts(verified(collected(gsv, sf, tmp_path)), tmp_path / "one", "val")
    with zipfile.ZipFile(tmp_path / "gsv.zip", "w") as content:
        for path in sorted(gsv.rglob("*.jpg")):
            content.write(path, path.relative_to(gsv))
    listing = collected(tmp_path / "gsv.zip", sf, tmp_path)
    assert listing.metadata["sources"]["gsv"]["sha256"].keys() == {"gsv.zip"}
    write_parts(verified(listing), tmp_path / "two", "val")
    for part in ("train", "validation", "evaluation"):
        assert (tmp_path / "one" / f"{part}.parquet").read_bytes() == (
            tmp_path / "two" / f"{part}.parquet"
        ).read_bytes()


def test_another_evaluation_set_leaves_the_training_manifest_alone(gsv, sf, tmp_path, data_root):
    write_parts(verified(collected(gsv, sf, tmp_path)), tmp_path / "one", "val")
    two = collected(gsv, sf, tmp_path, eval_sets={"val": "sf", "more": "sf"})
    write_parts(verified(two), tmp_path / "two", "val")
    assert read_manifest(tmp_path / "two/evaluation.parquet").set_names() == ["more", "val"]
    for number in ("one", "two"):
        evaluation = read_manifest(tmp_path / number / "evaluation.parquet")
        write_manifest(set_manifest(evaluation, "val"), tmp_path / number / "val.parquet")
    for part in ("train", "validation", "val"):
        assert (tmp_path / "one" / f"{part}.parquet").read_bytes() == (
            tmp_path / "two" / f"{part}.parquet"
        ).read_bytes()
    write_parts(collected(gsv, sf, tmp_path), tmp_path / "three", None)
    assert len(read_manifest(tmp_path / "three/validation.parquet").rows) == 0


def test_counts_that_differ_are_named(gsv, sf, tmp_path, data_root):
    shutil.rmtree(gsv / "gsv_xs/train/rome")
    next((sf / "sf_xs/val/queries").iterdir()).unlink()
    differences = verify(collected(gsv, sf, tmp_path), 25.0, 1).differences
    assert differences == [
        "gsv: 30 images, 60 expected",
        "gsv: 10 places, 15 to 25 expected",
        "sf: 2 queries, 3 expected",
    ]


def test_cities_dates_and_shares_filter_the_training_places(gsv, sf, tmp_path, data_root):
    rome = collected(gsv, sf, tmp_path, cities=["Rome"]).train()
    assert set(rome["city"]) == {"rome"}
    late = collected(gsv, sf, tmp_path, dates=[201507, 201912]).train()
    assert set(late["timestamp"]) == {"201507", "201907"}
    half = collected(gsv, sf, tmp_path, share_of_places=0.5)
    assert half.train().groupby("city")["place_id"].nunique().to_dict() == {"osl": 5, "rome": 5}
    # A larger share, or one city less, keeps the places that were chosen.
    more = set(collected(gsv, sf, tmp_path, share_of_places=0.7).train()["place_id"])
    chosen = set(half.train()["place_id"])
    assert chosen < more
    alone = set(collected(gsv, sf, tmp_path, share_of_places=0.5, cities=["osl"]).train()["place_id"])
    assert alone == {place for place in chosen if "/osl/" in place}
    assert set(collected(gsv, sf, tmp_path, share_of_places=0.5, seed=2).train()["place_id"]) != chosen
    # Counts are of the source, before the filters.
    assert half.metadata["sources"]["gsv"]["found"]["images"] == 60
    with pytest.raises(
        UserError, match=r"datasets.gsv_xs.images.cities names \['paris'\]; choose from \['osl', 'rome'\]"
    ):
        collected(gsv, sf, tmp_path, cities=["Paris"])
    with pytest.raises(UserError, match="leave no training image"):
        collected(gsv, sf, tmp_path, dates=[199001, 199112])


def test_filters_leave_bad_names_for_verify_to_report(gsv, sf, tmp_path, data_root):
    put(gsv / "gsv_xs/train/rome/holiday.jpg", jpeg(1))
    for changes in ({"dates": [201507, 201912]}, {"cities": ["osl"]}, {"share_of_places": 0.5}):
        listing = collected(gsv, sf, tmp_path, **changes)
        assert (verify(listing, 25.0, 1).problems["severity"] == "error").sum() == 1, changes
    shutil.rmtree(gsv / "gsv_xs/train/osl")
    for path in (gsv / "gsv_xs/train/rome").glob("@*"):
        path.unlink()
    listing = collected(gsv, sf, tmp_path, dates=[201507, 201912])
    assert verify(listing, 25.0, 1).problems["image"].str.endswith("holiday.jpg").sum() == 1


def test_cities_are_chosen_from_all_sources_together(gsv, sf, tmp_path, data_root):
    put(tmp_path / "other/train/paris" / name(1, 0, "1_Paris"), jpeg(1))
    sources = {
        "one": SourceParams(url=f"file://{gsv}", layout="gsv_xs", folder="train"),
        "two": SourceParams(url=f"file://{tmp_path / 'other'}", layout="gsv_xs", folder="train"),
    }
    params = CollectionParams(
        train=["one", "two"],
        eval_sets={},
        cities=["paris", "osl"],
        dates=None,
        share_of_places=1.0,
        seed=1,
        shares=None, places=None,
    )  # fmt: skip
    train = collect("gsv_xs", params, sources, Context(known_hashes=tmp_path / "known.json")).train()
    assert set(train["place_id"].str.rpartition("/")[0]) == {"one/osl", "two/paris"}


def test_links_are_never_changed(gsv, sf, tmp_path, data_root):
    """Two experiments with other sources under one name must not read each other's images."""
    shutil.copytree(gsv, tmp_path / "copy")
    one, two = collected(gsv, sf, tmp_path), collected(tmp_path / "copy", sf, tmp_path)
    assert one.rows.equals(two.rows)
    assert one.folder != two.folder
    image = one.train()["image"][0]
    put(tmp_path / "copy/gsv_xs/train" / image.removeprefix("gsv/"), jpeg(999))
    assert (one.folder / image).read_bytes() != (two.folder / image).read_bytes()


def test_several_training_sets_are_joined(gsv, sf, tmp_path, data_root):
    sources = {s: SourceParams(url=f"file://{gsv}", layout="gsv_xs", folder="train") for s in ("one", "two")}
    params = CollectionParams(
        train=["one", "two"],
        eval_sets={},
        cities=None,
        dates=None,
        share_of_places=1.0,
        seed=1,
        shares=None,
        places=None,
    )
    train = collect("gsv_xs", params, sources, Context(known_hashes=tmp_path / "known.json")).train()
    assert train["place_id"].nunique() == 40


def test_counts_are_of_sound_images_and_cities_are_named(gsv, sf, tmp_path, data_root):
    next((sf / "sf_xs/val/queries").iterdir()).write_bytes(b"broken")
    shutil.rmtree(gsv / "gsv_xs/train/osl")
    put(gsv / "gsv_xs/train/nice" / name(1, 0, "1_Nice"), jpeg(3))
    listing = collected(gsv, sf, tmp_path)
    listing.metadata["sources"]["gsv"]["expected"] = {"cities": ["rome", "osl"]}
    assert verify(listing, 25.0, 1).differences == [
        "gsv: 2 cities, 2 expected; without osl; unexpected: nice",
        "sf: 2 queries, 3 expected",
    ]


def test_a_place_whose_images_are_all_broken_does_not_count(gsv, sf, tmp_path, data_root):
    for path in (gsv / "gsv_xs/train/rome").glob("*@3_Rome@*"):
        path.write_bytes(b"broken")
    checked = verify(collected(gsv, sf, tmp_path), 25.0, 1)
    assert checked.manifest.metadata["sources"]["gsv"]["found"]["images"] == 57
    assert checked.manifest.metadata["sources"]["gsv"]["found"]["places"] == 19


def test_the_same_image_in_two_places_is_a_warning(gsv, sf, tmp_path, data_root):
    sources = {s: SourceParams(url=f"file://{gsv}", layout="gsv_xs", folder="train") for s in ("one", "two")}
    params = CollectionParams(
        train=["one", "two"],
        eval_sets={},
        cities=None,
        dates=None,
        share_of_places=1.0,
        seed=1,
        shares=None,
        places=None,
    )
    listing = collect("gsv_xs", params, sources, Context(known_hashes=tmp_path / "known.json"))
    problems = verify(listing, 25.0, 1).problems
    assert set(problems["severity"]) == {"warning"}
    assert problems["problem"].str.startswith("the same content in several training places: ").sum() == 120


def test_zones_that_are_none_are_errors(gsv, sf, tmp_path, data_root):
    file = name(1, 0, "1_Rome")
    for zone in ("@99@T@", "@32@@", "@32@I@", "@@@"):
        put(gsv / "gsv_xs/train/rome" / file.replace("@32@T@", zone), jpeg(5))
    problems = verify(collected(gsv, sf, tmp_path), 25.0, 1).problems
    errors = problems[problems["severity"] == "error"]["problem"]
    assert len(errors) == 4
    assert errors.str.match(r"utm_zone is not a zone: '.*'; expected a zone such as 32T").all()


def test_hidden_files_are_no_images_and_odd_names_are_reported(gsv, sf, tmp_path, data_root):
    put(gsv / "gsv_xs/train/rome/._a.jpg")
    put(gsv / "__MACOSX/train/rome/a.jpg")
    put(gsv / "gsv_xs/train/rome/holiday.jpg", jpeg(1))
    put(gsv / "gsv_xs/train/rome" / name(99), jpeg(2))
    problems = verify(collected(gsv, sf, tmp_path), 25.0, 1).problems
    errors = problems[problems["severity"] == "error"]["problem"].tolist()
    assert sorted(errors) == [
        "not in the standard VPR naming, 0 fields between '@' instead of 14",
        "the name's note gives no place; expected <place>_<City>",
    ]


def test_leakage_wide_places_and_disagreeing_coordinates_are_found(gsv, sf, tmp_path, data_root):
    copied = sorted((gsv / "gsv_xs/train/osl").iterdir())[0]
    query = sorted((sf / "sf_xs/val/queries").iterdir())[0]
    query.write_bytes(copied.read_bytes())
    put(gsv / "gsv_xs/train/rome" / name(77, 51, "0_Rome"), jpeg(77))
    moved = name(78, 400, "2_Rome").replace("@044.25", "@044.26")
    assert "@044.26" in moved
    put(gsv / "gsv_xs/train/rome" / moved, jpeg(78))
    problems = verify(collected(gsv, sf, tmp_path), 25.0, 1).problems
    printed = sorted(problems["severity"] + " " + problems["problem"].str.replace(r"@.*", "@", regex=True))
    assert printed[0].startswith("error utm and lat, lon: 1,11")  # a hundredth of a degree
    assert printed[1:] == [
        "warning a query without any positive in its database",
        "warning images of one place far apart: gsv/rome/0 spans 51 m",
        "warning leakage: the same content as a training image: gsv/osl/@",
    ]


@pytest.mark.parametrize("city", ["osl", "medellin"])
def test_the_real_tables_of_gsv_xs_come_out_with_all_their_counts(shared, sf, tmp_path, data_root, city):
    table = pd.read_csv(shared / "gsv_xs_dataframes" / f"{city}.csv")
    folder = tmp_path / "real/train" / city
    folder.mkdir(parents=True)
    put(tmp_path / "one.jpg", jpeg(1))
    for file in table["filename"]:
        os.link(tmp_path / "one.jpg", folder / file)
    listing = collected(tmp_path / "real", sf, tmp_path)
    places = {"osl": 1810, "medellin": 849}[city]
    assert listing.metadata["sources"]["gsv"]["found"] == {
        "images": len(table), "places": places, "cities": 1, "city_names": [city]
    }  # fmt: skip
    checked = verify(listing, 25.0, num_workers=2)
    assert (checked.problems["severity"] == "warning").all()
    train = checked.manifest.train()
    assert len(train) == len(table)
    sizes = train.groupby("place_id").size()
    expected = table.groupby("place_id").size()
    assert sorted(sizes) == sorted(expected)
    assert sizes[f"gsv/{city}/{expected.index[0]}"] == expected.iloc[0]
    assert train["utm_east"].sum() == pytest.approx(table["UTMx"].sum(), abs=0.01 * len(table))
    assert checked.statistics["num_wide_places"] == 0


def test_the_real_names_of_sf_xs_val_have_the_authors_positives(shared, tmp_path, data_root):
    tables = {part: pd.read_csv(shared / f"seed_results/sfxs_val_{part}.csv.gz") for part in ("database", "queries")}
    for part, table in tables.items():
        for image in table["image"]:
            put(tmp_path / f"sf_xs/val/{part}" / Path(image).name)
    source = SourceParams(url="file:///", layout="standard", folder="val")
    folder, rows = read_standard("sources.sf_xs_val", "sf_xs_val", tmp_path, source)
    assert folder == tmp_path / "sf_xs/val"
    database, queries = (
        rows[rows["role"] == role].assign(name=rows["image"].str.rpartition("/")[2]).reset_index(drop=True)
        for role in (DATABASE, QUERY)
    )
    assert (len(database), len(queries)) == (8015, 7993)
    assert (rows["problem"] == "").all()
    found = positives_of(database.assign(place_id=""), queries.assign(place_id=""), 25.0)
    index = {Path(image).name: k for k, image in enumerate(tables["database"]["image"])}
    theirs = dict(
        zip(tables["queries"]["image"].map(lambda i: Path(i).name), tables["queries"]["positives"], strict=True)
    )
    for image, near in zip(queries["name"], found, strict=True):
        text = theirs[image]
        expected = {int(p) for p in str(text).replace("[", " ").replace("]", " ").replace(",", " ").split()}
        assert {index[database["name"][k]] for k in near} == expected


# Folders.


def test_a_set_is_found_at_any_depth_and_a_missing_one_lists_what_is_there(tmp_path):
    put(tmp_path / "a/b/val/database/x.jpg")
    put(tmp_path / "a/b/val/queries/y.jpg")
    assert find_folder("sources.s", tmp_path, "val", ("database", "queries")) == tmp_path / "a/b/val"
    with pytest.raises(UserError, match=r"no folder 'val' with database and queries_v1 in it; it has a, a/b"):
        find_folder("sources.s", tmp_path, "val", ("database", "queries_v1"))
    put(tmp_path / "a/c/val/database/x.jpg")
    put(tmp_path / "a/c/val/queries/y.jpg")
    with pytest.raises(UserError, match="holds a/b/val, a/c/val; name one of them"):
        find_folder("sources.s", tmp_path, "val", ("database", "queries"))
    assert list_images(tmp_path / "a/b") == ["val/database/x.jpg", "val/queries/y.jpg"]
    (tmp_path / "a/b/val/again").symlink_to(tmp_path / "a/b")
    assert list_images(tmp_path / "a/b") == ["val/database/x.jpg", "val/queries/y.jpg"]


# The full GSV-Cities.


@pytest.fixture
def gsv_cities(tmp_path):
    """Names and tables as published: a code that is not the folder's name, bearings over 360, an image too few."""
    rows = [
        ("PRS", 3, 2015, 5, 584, 48.79733778544615, 2.231461206488333, "7P0FnGV3k4Fmtw66b8_-Gg"),
        ("PRS", 3, 2018, 5, 406, 48.79731397404108, 2.231417994064803, "R2vU9sk2livhkYbhy8SFfA"),
        ("PRS", 4, 2019, 7, 11, 48.79, 2.23, "gone"),
    ]
    for code, place, year, month, north, lat, lon, pano in rows[:2]:
        put(
            tmp_path / f"Images/Paris/{code}_{place:07d}_{year}_{month:02d}_{north:03d}_{lat}_{lon}_{pano}.JPG",
            jpeg(place),
        )
    put(tmp_path / "Images/Paris/PRS_0000009_2019_07_011_48.79_2.23_unlisted.JPG", jpeg(1))
    put(
        tmp_path / "Images/Boston/Boston_0006385_2015_06_121_42.37599246498178_-71.06902130162344_2MyX_Geslu.JPG",
        jpeg(2),
    )
    columns = ["city_id", "place_id", "year", "month", "northdeg", "lat", "lon", "panoid"]
    (tmp_path / "Dataframes").mkdir()
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "Dataframes/Paris.csv", index=False)
    return tmp_path


def test_gsv_cities_is_read_from_its_tables_and_names(gsv_cities, capsys):
    _, rows = read_gsv_cities("sources.g", "g", gsv_cities, SourceParams(url="file:///", layout="gsv_cities"))
    assert rows["place_id"].tolist() == ["g/paris/3", "g/paris/3", "g/paris/4", "g/boston/6385"]
    assert rows["heading"].tolist() == [224.0, 46.0, 11.0, 121.0]
    assert rows["timestamp"].tolist() == ["201505", "201805", "201907", "201506"]
    assert rows["utm_zone"].tolist() == ["31U", "31U", "31U", "19T"]
    assert rows["image"][2] == "Images/Paris/PRS_0000004_2019_07_011_48.79_2.23_gone.jpg"
    assert (gsv_cities / rows["image"][0]).is_file()
    assert "1 images are in no table of Dataframes and are not used" in capsys.readouterr().out
    # The two photos are a few metres apart.
    metres = np.hypot(*(rows[["utm_east", "utm_north"]].iloc[0] - rows[["utm_east", "utm_north"]].iloc[1]))
    assert 1 < metres < 10


def test_a_row_of_gsv_cities_whose_number_is_none_is_a_problem(gsv_cities):
    table = gsv_cities / "Dataframes/Paris.csv"
    table.write_text(table.read_text().replace("PRS,4,2019", "PRS,inf,2019"), encoding="utf-8")
    _, rows = read_gsv_cities("sources.g", "g", gsv_cities, SourceParams(url="file:///", layout="gsv_cities"))
    assert (rows["problem"] != "").sum() == 1


def test_gsv_cities_without_tables_is_read_from_the_names(gsv_cities):
    shutil.rmtree(gsv_cities / "Dataframes")
    put(gsv_cities / "Images/Paris/other.jpg", jpeg(1))
    _, rows = read_gsv_cities("sources.g", "g", gsv_cities, SourceParams(url="file:///", layout="gsv_cities"))
    assert sorted(rows.loc[rows["problem"] == "", "place_id"]) == [
        "g/boston/6385", "g/paris/3", "g/paris/3", "g/paris/9",
    ]  # fmt: skip
    assert rows.loc[rows["problem"] != "", "image"].tolist() == ["Images/Paris/other.jpg"]


# Ground truth that is a file or a window.


@pytest.fixture
def frames(tmp_path):
    """Twelve frames each way, numbered without zeros."""
    for k in range(12):
        put(tmp_path / f"ref/{k}.jpg", jpeg(k))
        put(tmp_path / f"query/{k}.jpg", jpeg(100 + k))
    return tmp_path


def positives(folder: Path, tmp_path: Path, **source) -> list[list[str]]:
    _, rows = read_standard(
        "sources.s",
        "s",
        folder,
        SourceParams(url="file:///", layout="standard", database="ref", queries="query", **source),
    )
    listing = make_manifest("t", str(folder), rows.assign(set="s"))
    database, queries = listing.part("s", DATABASE), listing.part("s", QUERY)
    assert positive_rule(database, queries) == "listed"
    found = positives_of(database, queries, 25.0)
    order = natural_order(queries["image"])
    return [sorted(Path(database["image"][k]).stem for k in found[q]) for q in order]


def test_a_window_of_frames_makes_the_positives(frames, tmp_path):
    found = positives(frames, tmp_path, frame_window=1)
    assert found[0] == ["0", "1"]
    assert found[5] == ["4", "5", "6"]
    assert found[11] == ["10", "11"]
    (frames / "ref/0.jpg").unlink()
    with pytest.raises(UserError, match=r"pairs each query with a database frame, but .* 12 queries and 11"):
        positives(frames, tmp_path, frame_window=1)


def test_frames_need_no_coordinates_though_some_names_have_them(frames, tmp_path, data_root):
    (frames / "ref/3.jpg").rename(frames / "ref" / name(3))
    source = SourceParams(url="file:///", layout="standard", database="ref", queries="query", frame_window=1)
    _, rows = read_standard("sources.s", "s", frames, source)
    listing = make_manifest("t", str(frames), rows.assign(set="s"))
    assert (verify(listing, 25.0, 1).problems["severity"] != "error").all()


def test_every_tenth_query_keeps_its_own_positives(frames, tmp_path):
    found = positives(frames, tmp_path, frame_window=1, query_step=5)
    assert found == [["0", "1"], ["4", "5", "6"], ["10", "11", "9"]], "frames 10i-1, 10i and 10i+1 in Nordland"


def lists(folder: Path, name: str, **arrays) -> SourceParams:
    for part, array in arrays.items():
        put(folder / "lists/x", b"")
        np.save(folder / f"lists/{name}_{part}.npy", array, allow_pickle=True)
    return SourceParams(url="file:///", layout="image_lists", lists=f"lists/{name}", allow_pickle=True)


def ragged(rows) -> np.ndarray:
    array = np.empty(len(rows), dtype=object)
    for k, row in enumerate(rows):
        array[k] = np.array(row)
    return array


def test_the_lists_of_gsv_cities_are_read_with_their_order_and_their_chosen_queries(tmp_path):
    database, queries = np.array(["db/b.jpg", "db/a.jpg", "db/c.jpg"]), np.array(["q/0.jpg", "q/1.jpg", "q/2.jpg"])
    truth = ragged([[0], [1, 2]])
    source = lists(tmp_path, "msls", dbImages=database, qImages=queries, qIdx=np.array([2, 0]), pIdx=truth)
    folder, rows = read_image_lists("sources.s", "s", tmp_path, source)
    listing = make_manifest("t", str(folder), rows.assign(set="s"))
    shown, asked = listing.part("s", DATABASE), listing.part("s", QUERY)
    found = positives_of(shown, asked, 25.0)
    by_name = {image: set(shown["image"].iloc[found[k]]) for k, image in enumerate(asked["image"])}
    assert by_name == {"q/2.jpg": {"db/b.jpg"}, "q/0.jpg": {"db/a.jpg", "db/c.jpg"}}
    source = lists(tmp_path, "pitts", dbImages=database, qImages=queries, gt=ragged([[0], [1], [2]]))
    assert len(read_image_lists("sources.s", "s", tmp_path, source)[1]) == 6
    with pytest.raises(UserError, match=r"sources\.s: .*sped_dbImages\.npy does not exist"):
        read_image_lists("sources.s", "s", tmp_path, source.model_copy(update={"lists": "lists/sped"}))
    source = lists(tmp_path, "odd", dbImages=database, qImages=queries, qIdx=np.array([3]), pIdx=ragged([[0], [1]]))
    with pytest.raises(UserError, match="names query 3, the list of queries has 0 to 2"):
        read_image_lists("sources.s", "s", tmp_path, source)
    source = lists(tmp_path, "numbers", dbImages=np.arange(3), qImages=queries, gt=ragged([[0], [1], [2]]))
    with pytest.raises(UserError, match="expected an array of file names"):
        read_image_lists("sources.s", "s", tmp_path, source)


def vpr_bench(lists) -> np.ndarray:
    array = np.empty((len(lists), 2), dtype=object)
    for k, frames in enumerate(lists):
        array[k, 0], array[k, 1] = k, frames
    return array


def test_the_ground_truth_of_vpr_bench_is_read_if_the_user_trusts_it(frames, tmp_path):
    lists = [[k, 11 - k] for k in range(12)]
    np.save(frames / "ground_truth_new.npy", vpr_bench(lists), allow_pickle=True)
    found = positives(frames, tmp_path, ground_truth="ground_truth_new.npy", allow_pickle=True)
    assert found[2] == ["2", "9"]
    assert found == [sorted({str(a), str(b)}) for a, b in lists]


def read(path: Path, *numbers: int, allow_pickle: bool = True) -> list[list[int]]:
    return read_ground_truth("sources.s", path, *numbers, allow_pickle=allow_pickle)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[0, 1], [1, 2]]),
        np.array([[0, 1], [1, 2]], dtype=object),
        vpr_bench([np.array([0, 1]), np.array([1, 2])]),
        vpr_bench([(np.int64(0), 1), [1, 2]]),
    ],
)
def test_every_form_of_ground_truth_gives_the_same_lists(tmp_path, array):
    np.save(tmp_path / "g.npy", array, allow_pickle=True)
    assert read(tmp_path / "g.npy", 2, 3) == [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.empty((10**6, 0), dtype=np.int64), "lists the positives of 1000000 queries"),
        (np.empty(10**6, dtype="V0"), "expected an array of numbers"),
        (np.array(3), "expected an array of numbers"),
        (np.array([[10**4000], [1]], dtype=object), "is not a whole number"),
    ],
    ids=["rows of nothing", "texts of nothing", "one number", "a large number"],
)
def test_arrays_of_nothing_and_numbers_without_end_are_refused(tmp_path, array, message):
    np.save(tmp_path / "g.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "g.npy", 2, 3)


def test_digits_that_are_no_number_are_letters():
    assert natural_order(["10.jpg", "²1.jpg", "2.jpg"]) == [2, 0, 1]


def test_a_query_may_have_no_positive(tmp_path):
    np.save(tmp_path / "g.npy", vpr_bench([[], [2]]), allow_pickle=True)
    assert read(tmp_path / "g.npy", 2, 3) == [[], [2]]


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_file_that_would_run_code_is_refused_unless_the_user_says_so(tmp_path):
    array = vpr_bench([[0], [1]])
    array[1, 1] = Harmful(tmp_path / "ran")
    np.save(tmp_path / "g.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=r"holds Python objects.*run code.*allow_pickle to true"):
        read_ground_truth("sources.s", tmp_path / "g.npy", 2, 3)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UserError, match="is not a frame number"):
        read_ground_truth("sources.s", tmp_path / "g.npy", 2, 3, allow_pickle=True)
    assert (tmp_path / "ran").exists()


def test_a_boolean_table_is_read_as_one(tmp_path):
    table = np.array([[True, False, True], [False, True, False]])
    np.save(tmp_path / "g.npy", table)
    assert read_ground_truth("sources.s", tmp_path / "g.npy", 2, 3) == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[0], [1], [2]]), "lists the positives of 3 queries, the set has 2"),
        (vpr_bench([[0], [1], [2]])[1:], r"it lacks \[0\], counted from 0"),
        (np.array([[0], [3]]), "names database frame 3, the set has 0 to 2"),
        (np.array([["a"], ["b"]]), "expected an array of numbers"),
        (np.array([[1.7], [0.0]]), r"1.7.* is not a whole number"),
        (np.array([[np.inf], [0.0]]), r"inf.* is not a whole number"),
        (np.array([[0, 1, 0], [1, 0, 0]]), "holds 0 and 1 as numbers; save it as an array of booleans"),
        (np.array([[True, False]]), r"is a table of \(1, 2\); the set has 2 x 3 images"),
        (np.empty((0, 2), dtype=object), "lists the positives of 0 queries"),
    ],
)
def test_lists_that_do_not_fit_the_images_are_refused(tmp_path, array, message):
    np.save(tmp_path / "g.npy", array)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "g.npy", 2, 3)


def test_a_file_that_is_no_npy_is_refused(tmp_path):
    (tmp_path / "g.npy").write_bytes(pickle.dumps([1]))
    with pytest.raises(UserError, match=r"not a .npy file"):
        read_ground_truth("sources.s", tmp_path / "g.npy", 2, 3)
    with pytest.raises(UserError, match=r"sources\.s: .* does not exist"):
        read_ground_truth("sources.s", tmp_path / "none.npy", 2, 3)


def test_positions_of_a_map_of_its_own_need_no_zone(tmp_path, data_root):
    """Nordland as VPR-datasets-downloader writes it: metres along a line, 2.4 for a frame."""
    for k in range(30):
        for part in ("database", "queries"):
            put(tmp_path / f"nordland/images/test/{part}" / f"@0@{k * 25 / 10.5:07.1f}@@@@@{k}@@@@@@@@.jpg", jpeg(k))
    source = SourceParams(url=f"file://{tmp_path / 'nordland'}", layout="standard", folder="images/test")
    params = CollectionParams(
        train=[],
        eval_sets={"n": "nordland"},
        cities=None,
        dates=None,
        share_of_places=1.0,
        seed=1,
        shares=None,
        places=None,
    )
    listing = collect("gsv_xs", params, {"nordland": source}, Context(known_hashes=tmp_path / "known.json"))
    checked = verify(listing, 25.0, 1)
    assert set(checked.problems["severity"]) == {"warning"}  # the same content on both sides
    near = positives_of(checked.manifest.part("n", DATABASE), checked.manifest.part("n", QUERY), 25.0)
    assert [len(p) for p in near[10:20]] == [21] * 10  # ten frames each way
    assert json.loads(json.dumps(listing.metadata))
    assert listing.train().empty
    assert TRAIN not in set(listing.rows["role"])


def ie_tower(folder: Path, shared: Path | None = None) -> Path:
    """The repository as GitHub packs it: of drawn frames, or of the real ones."""
    data = folder / "ie-tower-visual-place-recognition-38d694e/data"
    if shared is None:
        names = [(f"floor{f}", f"f0{f}_hall_c{c}", n) for f in (1, 2) for c in range(5) for n in range(1, 13)]
        rows = [
            {"image_path": f"processed_frames/{floor}/{clip}_frame_{n:06d}.jpg", "label": floor,
             "split": "query" if n % 5 == 1 and n > 1 else "gallery"}
            for floor, clip, n in names
        ]  # fmt: skip
        for k, row in enumerate(rows):
            put(data / row["image_path"], jpeg(k))
        table = pd.DataFrame(rows)
    else:
        listed = pd.read_csv(shared / "ie_tower/dataset.csv")
        path = "processed_frames/" + listed["image"].str.removeprefix("images/")
        table = pd.DataFrame({"image_path": path, "label": listed["floor"], "split": listed["split"]})
        for image, target in zip(listed["image"], path, strict=True):
            (data / target).parent.mkdir(parents=True, exist_ok=True)
            os.link(shared / "ie_tower" / image, data / target)
    (data / "metadata").mkdir(parents=True)
    table.to_csv(data / "metadata/dataset.csv", index=False)
    return folder


def tower_sources(folder: Path) -> dict[str, SourceParams]:
    real = load_sources(Path(__file__).parents[3] / "data/sources.yaml")
    return {
        name: real[name].model_copy(update={"url": f"file://{folder}"})
        for name in ("ie_tower_train", "ie_tower_fit", "ie_tower_val", "ie_tower")
    }


def tower_listing(folder: Path, tmp_path: Path, train: str) -> Manifest:
    params = CollectionParams(
        train=[train], eval_sets={"val": "ie_tower_val", "test": "ie_tower"}, cities=None, dates=None,
        share_of_places=1.0, seed=1, shares=None, places=None,
    )  # fmt: skip
    return collect("ie_tower", params, tower_sources(folder), Context(known_hashes=tmp_path / "known.json"))


def test_ie_tower_is_read_as_its_repository_has_it_and_clips_are_held_out(tmp_path, data_root):
    folder = ie_tower(tmp_path / "tower")
    listing = tower_listing(folder, tmp_path, "ie_tower_fit")
    train = listing.train()
    assert "f01_hall_c4" in set(listing.part("test", QUERY)["sequence"])
    assert not {"f01_hall_c4", "f02_hall_c4"} & set(train["sequence"]), "every fifth clip"
    assert set(listing.part("val", QUERY)["sequence"]) == {"f01_hall_c4", "f02_hall_c4"}
    frames = train[train["sequence"] == "f01_hall_c0"].set_index("timestamp")["place_id"].str.rpartition("/")[2]
    frames.index = frames.index.astype(float).astype(int)
    assert frames.to_dict() == {
        **dict.fromkeys((1, 2, 3, 4, 5), "0"),
        **dict.fromkeys((7, 8, 9, 10), "1"),
        12: "2",
    }
    test = listing.part("test", QUERY)
    assert set(test["timestamp"].astype(float)) == {6, 11}
    published = set(test["image"].str.rpartition("/")[2])
    for part in (train, listing.part("val", DATABASE), listing.part("val", QUERY)):
        assert not published & set(part["image"].str.rpartition("/")[2]), "the published queries are in nothing else"
    put(tmp_path / "empty/a.jpg", jpeg(1))
    with pytest.raises(UserError, match=r"holds 0 files metadata/dataset\.csv"):
        tower_listing(tmp_path / "empty", tmp_path, "ie_tower_fit")


def test_the_real_ie_tower_comes_out_with_all_its_counts(shared, tmp_path, data_root):
    listing = tower_listing(ie_tower(tmp_path / "tower", shared), tmp_path, "ie_tower_train")
    parts = (listing.train(), listing.part("test", DATABASE), listing.part("test", QUERY))
    assert [len(part) for part in parts] == [2373, 2373, 504]
    assert listing.part("test", QUERY)["place_id"].nunique() == 25
    sizes = listing.train().groupby("place_id").size()
    assert (sizes.max(), int((sizes >= 4).sum())) == (5, 528)


def test_gardens_point_is_evaluated_within_two_frames(shared, tmp_path, data_root):
    sources = load_sources(Path(__file__).parents[3] / "data/sources.yaml")
    sources = {
        name: sources[name].model_copy(update={"url": f"file://{shared / 'gardens_point'}"})
        for name in ("gardens_point_day", "gardens_point_night")
    }
    params = CollectionParams(
        train=[], eval_sets={"day": "gardens_point_day", "night": "gardens_point_night"}, cities=None, dates=None,
        share_of_places=1.0, seed=1, shares=None, places=None,
    )  # fmt: skip
    listing = collect("gardens_point", params, sources, Context(known_hashes=tmp_path / "known.json"))
    queries = listing.part("night", QUERY).sort_values("image")
    assert len(queries) == len(listing.part("night", DATABASE)) == 200
    assert queries["positive_frames"].iloc[[0, 100, 199]].tolist() == ["0 1 2", "98 99 100 101 102", "197 198 199"]
    published = np.load(shared / "gardens_point/ground_truth_new.npy", allow_pickle=True)
    in_the_walk = [[int(k) for k in frames if 0 <= k < 200] for _, frames in published]
    assert in_the_walk == [[int(k) for k in row.split()] for row in queries["positive_frames"]]


def test_a_list_of_keys_says_which_queries_count_and_the_protocol_stands_beside_the_recalls(tmp_path, data_root):
    for k in range(6):
        put(tmp_path / "msls/val/database" / name(k, 30 * k), jpeg(k))
        put(tmp_path / "msls/val/queries" / name(10 + k, 30 * k), jpeg(10 + k))
    keys = [parse_name(name(10 + k, 30 * k)).pano for k in (1, 4)]
    (tmp_path / "msls/val/keys.txt").write_text("\n".join(keys), encoding="utf-8")
    source = SourceParams(
        url=f"file://{tmp_path / 'msls'}", layout="standard", folder="val", query_list="keys.txt", protocol="two, 25 m"
    )
    params = CollectionParams(
        train=[],
        eval_sets={"val": "msls"},
        cities=None,
        dates=None,
        share_of_places=1.0,
        seed=1,
        shares=None,
        places=None,
    )
    listing = collect("benchmarks", params, {"msls": source}, Context(known_hashes=tmp_path / "known.json"))
    database, queries = listing.part("val", DATABASE), listing.part("val", QUERY)
    assert (len(database), len(queries)) == (6, 2)
    ranking = np.array([[1], [0]])
    metrics = evaluate_ranking(ranking, np.zeros((2, 1), np.float32), database, queries, [1], 25.0).metrics
    assert (metrics["protocol"], metrics["num_queries"], metrics["recall_at_1"]) == ("two, 25 m", 2, 0.5)
    (tmp_path / "msls/val/keys.txt").write_text("not-there", encoding="utf-8")
    with pytest.raises(UserError, match="belong to no query, the first of them 'not-there'"):
        collect("benchmarks", params, {"msls": source}, Context(known_hashes=tmp_path / "known.json"))


def test_places_of_a_folder_in_the_standard_naming_are_cells(tmp_path, data_root):
    for k in range(8):
        put(tmp_path / "sf/train" / name(k, 4 * k), jpeg(k))
    cells = CellParams(by="cells", side_m=10.0, sector_deg=360.0, groups=3, sector_groups=1, focal_m=10.0)
    params = CollectionParams(
        train=["sf_xl"], eval_sets={}, cities=None, dates=None, share_of_places=1.0, seed=1, shares=None, places=cells
    )
    source = SourceParams(url=f"file://{tmp_path / 'sf'}", layout="standard_train", folder="train")
    train = collect("gsv_xs", params, {"sf_xl": source}, Context(known_hashes=tmp_path / "known.json")).train()
    assert len(train) == 8
    assert (train["utm_east"] // 10).astype(int).nunique() == train["place_id"].nunique()
    assert train["place_id"].str.startswith("sf_xl/").all()
    assert set(train["group"]) <= {f"{a}_{b}_0" for a in range(3) for b in range(3)}
