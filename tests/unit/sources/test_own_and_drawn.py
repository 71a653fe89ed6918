"""The embedded city, the user's own data, and what verify finds in damaged data."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from tiny_city import TINY_CITY
from vpr.config.errors import UserError
from vpr.config.params import parse
from vpr.data.coordinates import to_degrees
from vpr.data.csv_files import to_csv
from vpr.data.images import open_image
from vpr.data.manifest import (
    DATABASE,
    QUERY,
    TRAIN,
    Manifest,
    make_manifest,
    read_manifest,
    write_manifest,
    write_parts,
)
from vpr.evaluation.sequences import drives
from vpr.retrieval.positives import positive_rule, positives_of
from vpr.sources.base import Context
from vpr.sources.custom import Custom, CustomParams
from vpr.sources.standard_naming import parse_name
from vpr.sources.synthetic import SyntheticParams
from vpr.sources.synthetic.photos import draw, plan
from vpr.verification import read_files as files
from vpr.verification.checks import check_sets, verify

# The embedded city.


def test_the_city_has_the_sets_sizes_and_names_it_should(city):
    rows = city.rows
    train = city.train()
    per_place = train.groupby("place_id").size()
    assert len(per_place) == TINY_CITY["train_places"]
    assert per_place.between(*TINY_CITY["images_per_place"]).all()
    assert city.set_names() == ["night", "test", "val"]
    for name in city.set_names():
        assert len(city.part(name, QUERY)) == TINY_CITY["num_queries"]
    for row in rows.itertuples():
        name = parse_name(row.image)
        assert (name.utm_east, name.utm_north) == pytest.approx((row.utm_east, row.utm_north), abs=0.006)
        assert name.utm_zone == row.utm_zone
        assert (name.heading, name.timestamp) == (row.heading % 360, row.timestamp)
        with Image.open(city.folder / row.image) as image:
            assert image.size == (48, 36)
    assert {"light", "season", "weather", "exposure", "field_of_view_deg"} <= set(city.rows)


def test_training_places_are_100_m_apart_and_cities_are_disjoint(city):
    train = city.train()
    centres = train.groupby(["city", "place_id"])[["utm_east", "utm_north"]].mean()
    for _, points in centres.groupby("city"):
        xy = points.to_numpy()
        metres = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
        # Photos are taken up to 7 m along the street and some metres across it from the place's centre.
        assert metres[~np.eye(len(xy), dtype=bool)].min() > 100 - 2 * 10
    cities = [set(train["city"]), *(set(city.rows.loc[city.rows["set"] == s, "city"]) for s in city.set_names())]
    assert sum(len(c) for c in cities) == len(set().union(*cities))


def test_every_query_has_a_database_image_within_25_m(city):
    result = verify(city, 25.0, num_workers=1)
    assert result.problems.empty
    assert result.statistics["num_left_out"] == 0


def test_the_same_seed_draws_the_same_city_and_another_seed_another(data_root, city):
    again = draw(SyntheticParams(**TINY_CITY))
    pd.testing.assert_frame_equal(again.rows, city.rows)
    for image in city.rows["image"][::17]:
        assert (again.folder / image).read_bytes() == (city.folder / image).read_bytes()
    shots = plan(SyntheticParams(**{**TINY_CITY, "seed": 4}))
    assert shots[0].camera != plan(SyntheticParams(**TINY_CITY))[0].camera


def test_an_interrupted_drawing_goes_on_and_leaves_no_half_images(data_root):
    params = SyntheticParams(**{**TINY_CITY, "train_places": 2, "num_queries": 1})
    listing = draw(params)
    gone, kept = listing.folder / listing.rows["image"][0], listing.folder / listing.rows["image"][1]
    content, stamp = gone.read_bytes(), kept.stat().st_mtime_ns
    gone.unlink()
    draw(params)
    assert gone.read_bytes() == content
    assert kept.stat().st_mtime_ns == stamp
    assert not list(listing.folder.rglob("*.part"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images_per_place": [3]}, r"images_per_place is \[3\]; expected \[least, most\]"),
        ({"variety": 1.5}, "variety is 1.5; expected a number from 0 to 1"),
        ({"blocks": 1}, "blocks is 1; expected a whole number from 2 to 1,000"),
        ({"num_queries": 0}, "num_queries is 0; expected a whole number from 1 to 10,000,000"),
        ({"train_places": 1}, "train_places is 1, fewer than train_cities 2"),
    ],
)
def test_a_city_that_can_t_be_drawn_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        parse({**TINY_CITY, **change}, SyntheticParams, "datasets.synthetic.images")


def test_moving_the_camera_gives_parallax_near_things_move_more_than_far_ones():
    from vpr.sources.synthetic.city import build_city
    from vpr.sources.synthetic.conditions import Camera, Look, sample_conditions
    from vpr.sources.synthetic.render import render

    town = build_city("Test", 5, (3, 3), (32, "T"), (500_000.0, 5_000_000.0))
    x, y = float(town.street_x[-1, 0]) / 2, float(town.street_y[1, 0])

    def view(metres: float, pitch: float) -> np.ndarray:
        camera = Camera(x + metres, y, 2.5, 0.0, pitch, 0.0, 0.6)
        conditions = sample_conditions(np.random.default_rng(0), town, Look(0.0, 0.0, (2015, 2015)), camera)
        return render(town, camera, conditions, 48, 36)

    assert np.array_equal(view(0.0, 0.0), view(0.0, 0.0))
    assert np.abs(view(0.0, 1.3) - view(3.0, 1.3)).max() < 1e-6  # straight up
    ahead = np.abs(view(0.0, 0.0) - view(3.0, 0.0)).mean(axis=2)
    assert ahead.mean() > 0.02
    # Walls beside the camera move more than the far end of the street, in the middle of the picture.
    assert ahead[:, :8].mean() > ahead[16:20, 22:26].mean()


# The user's own data.


def picture(path: Path, size=(20, 10), colour=(200, 100, 50), **save) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **save)


OPTIONS = {
    "root": None,
    "columns": {},
    "splits": {},
    "utm_zone": None,
    "ground_truth": {},
    "allow_pickle": False,
    "places": None,
}


def own(source: Path, **changes) -> Manifest:
    return Custom("custom").prepare(CustomParams(**{**OPTIONS, "source": str(source), **changes}), Context())


def test_a_table_becomes_rows_with_all_its_columns(tmp_path):
    table = tmp_path / "own.csv"
    table.write_text(
        "image,split,place_id,lat,lon,weather\n"
        "a.jpg,train,007,45.0,7.0,sun\n"
        "b.jpg,home/database,,45.0,7.0,rain\n"
        "c.jpg,home/queries,,45.0001,7.0,rain\n"
    )
    listing = own(table)
    assert listing.folder == tmp_path
    train = listing.train()
    assert train["place_id"].tolist() == ["007"]
    assert listing.rows["weather"].tolist() == ["rain", "rain", "sun"]
    # 45 N 7 E lies in zone 32T, two degrees west of its central meridian: 157.6 km in the projection.
    assert train["utm_zone"].tolist() == ["32T"]
    assert train["utm_east"][0] == pytest.approx(500_000 - 157_631, abs=2)
    assert train["utm_north"][0] == pytest.approx(4_984_896, abs=100)
    north = listing.part("home", QUERY)["utm_north"][0] - listing.part("home", DATABASE)["utm_north"][0]
    assert north == pytest.approx(11.1, abs=0.1)  # a ten-thousandth of a degree


def test_columns_and_splits_are_mapped_and_an_image_may_play_two_roles(tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("file,fold,floor,clip\na.jpg,gallery,f1,c1\nb.jpg,query,f1,c1\n")
    listing = own(
        table,
        columns={"image": "file", "split": "fold", "place_id": "floor", "train_place_id": "clip"},
        splits={"gallery": ["train", "tower/database"], "query": "tower/queries"},
    )
    roles = listing.rows.set_index("role")
    assert roles.loc[TRAIN, "place_id"] == "c1"
    assert roles.loc[DATABASE, "place_id"] == "f1"
    assert roles.loc[QUERY, "place_id"] == "f1"


def test_a_file_lists_the_positives_of_a_set_in_the_natural_order_of_names(tmp_path):
    rows = [f"home/{n}.jpg,home/database" for n in (10, 2, 1)] + ["q/2.jpg,home/queries", "q/1.jpg,home/queries"]
    (tmp_path / "own.csv").write_text(
        "image,split\n" + "\n".join([*rows, "x.jpg,other/database", "y.jpg,other/queries"])
    )
    np.save(tmp_path / "truth.npy", np.array([[False, False, True], [True, True, False]]))
    listing = own(tmp_path / "own.csv", ground_truth={"home": "truth.npy"})
    database, queries = listing.part("home", DATABASE), listing.part("home", QUERY)
    positives = positives_of(database, queries, radius_m=25.0)
    by_name = {q: [database["image"][k] for k in found] for q, found in zip(queries["image"], positives, strict=True)}
    assert by_name == {"q/1.jpg": ["home/10.jpg"], "q/2.jpg": ["home/1.jpg", "home/2.jpg"]}
    assert positive_rule(listing.part("other", DATABASE), listing.part("other", QUERY)) == "none"
    with pytest.raises(UserError, match="ground_truth names the set 'hom'; choose from \\['home', 'other'\\]"):
        own(tmp_path / "own.csv", ground_truth={"hom": "truth.npy"})
    with pytest.raises(UserError, match="is a table of \\(2, 3\\); the set has 1 x 1 images"):
        own(tmp_path / "own.csv", ground_truth={"other": "truth.npy"})


def test_one_file_by_two_paths_is_one_image(tmp_path):
    (tmp_path / "own.csv").write_text("image,split,place_id\np/1.jpg,train,1\n./p//1.jpg,train,2\n")
    assert own(tmp_path / "own.csv").train()["image"].tolist() == ["p/1.jpg", "p/1.jpg"]


def test_parquet_is_read_as_well(tmp_path):
    pd.DataFrame({"image": ["a.jpg"], "split": ["train"], "place_id": [3]}).to_parquet(tmp_path / "own.parquet")
    assert own(tmp_path / "own.parquet").train()["place_id"].tolist() == ["3"]


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        ("image,place_id\na.jpg,1\n", {}, "no column 'split'"),
        ("image,split,place_id\na.jpg,test,1\n", {}, "split 'test' is not valid; expected train, <set>/database"),
        ("image,split,place_id\n", {}, "has a header but no rows"),
        ("path,split\na.jpg,train\n", {}, r"no column 'image', only .* \(did you mean 'path'"),
        ("image,splits\na.jpg,train\n", {}, r"no column 'split', only .* \(did you mean 'splits'"),
        ("image,split,Latitude,lng\na.jpg,train,1,2\n", {}, r"did you mean lat, lon\? .* to {lat: Latitude, lon: lng}"),
        ("image,split,lat,longitude\na.jpg,train,1,2\n", {}, r"no column lon \(did you mean 'longitude'"),
        ("image,split,lat\na.jpg,train,45\n", {}, "has a column lat but no column lon; add it, or map it"),
        ("image,split,utm_north\na.jpg,train,4\n", {}, "has a column utm_north but no column utm_east"),
        ("image,split,place_id\na.jpg,train,1\n", {"columns": {"place_id": "floor"}}, r"names \['floor'\], but"),
    ],
)
def test_a_table_that_can_t_be_used_says_why(tmp_path, content, changes, message):
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        own(tmp_path / "own.csv", **changes)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_spreadsheet_of_any_country_is_read(tmp_path, separator):
    point = "," if separator == ";" else "."
    cells = [["image", "split", "place_id", "lat", "lon", "note"]]
    cells += [[f"{place}.jpg", "train", place, f"52{point}52", f"13{point}4", "x"] for place in "12"]
    (tmp_path / "own.csv").write_text("\n".join(separator.join(row) for row in cells) + "\n")
    rows = own(tmp_path / "own.csv").train()
    assert rows["place_id"].tolist() == ["1", "2"]
    assert to_degrees(rows["utm_east"].to_numpy(), rows["utm_north"].to_numpy(), rows["utm_zone"].to_list())[
        0
    ] == pytest.approx([52.52, 52.52], abs=1e-6)


@pytest.mark.parametrize("unknown", ["NA", "nan", "NaT", "N/A", "None", "", "null"])
def test_a_cell_that_says_unknown_is_unknown(tmp_path, unknown):
    cells = ",".join([unknown] * 5)
    lines = ["image,split,place_id,lat,lon,heading,timestamp,sequence", f"a.jpg,train,NAples,{cells}"]
    (tmp_path / "own.csv").write_text("\n".join([*lines, f"b.jpg,train,{unknown},{cells}"]) + "\n")
    rows = own(tmp_path / "own.csv").rows
    assert rows["place_id"].tolist() == ["NAples", ""]
    assert rows["utm_east"].isna().all()
    assert rows["timestamp"].tolist() == rows["sequence"].tolist() == ["", ""]
    assert not rows["problem"].any()


def test_a_column_of_timestamps_in_several_forms_is_refused_and_others_sort(tmp_path):
    (tmp_path / "own.csv").write_text("image,split,timestamp\na.jpg,t/queries,2021-07-15\nb.jpg,t/queries,202106\n")
    with pytest.raises(UserError, match=r"own\.csv: column timestamp: timestamps of several forms"):
        own(tmp_path / "own.csv")
    times = [float(k) for k in range(16)]
    lines = [f"{k}.jpg,t/queries,walk,{time}" for k, time in enumerate(times)]
    (tmp_path / "own.csv").write_text("\n".join(["image,split,sequence,timestamp", *lines]) + "\n")
    (drive,) = drives(own(tmp_path / "own.csv").part("t", QUERY))
    names = own(tmp_path / "own.csv").part("t", QUERY)["image"].to_numpy()[drive]
    assert names.tolist() == [f"{k}.jpg" for k in range(16)]


def test_excel_s_first_line_and_decimal_commas_beside_unknown_cells_are_read(tmp_path):
    (tmp_path / "own.csv").write_text(
        "sep=;\nimage;split;lat;lon;place_id\na.jpg;train;45,46; 9,18 ;1,2\nb.jpg;train;NA;NA;3\n"
    )
    rows = own(tmp_path / "own.csv").rows
    assert rows["lat"].tolist()[0] == 45.46
    assert rows["place_id"].tolist() == ["1,2", "3"]
    assert rows["utm_east"].isna().tolist() == [False, True]
    (tmp_path / "own.csv").write_text("image,split\na.jpg,train\nb.jpg,train,more\n")
    with pytest.raises(UserError, match=r"2 columns, but a row has 3 cells: \['b.jpg', 'train', 'more'\]"):
        own(tmp_path / "own.csv")


def test_blanks_after_separators_do_not_matter_and_nanoseconds_keep_their_digits(tmp_path):
    (tmp_path / "own.csv").write_text(
        ' image , split, lat, lon\na.jpg, train, 45.46, 9.18\n" b.jpg", train, 45.5, 9.2\n'
    )
    rows = own(tmp_path / "own.csv").rows
    assert sorted(rows["image"]) == [" b.jpg", "a.jpg"]
    assert rows["utm_zone"].tolist() == ["32T", "32T"]
    table = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "split": "train", "timestamp": [1626352200e9, np.nan]})
    table.to_parquet(tmp_path / "own.parquet")
    assert own(tmp_path / "own.parquet").rows["timestamp"].tolist() == ["20210715123000", ""]


def test_zero_zero_is_no_position_and_a_set_has_zones_or_none(tmp_path, data_root):
    (tmp_path / "own.csv").write_text("image,split,lat,lon\na.jpg,t/database,0,0\nb.jpg,t/database,0.0,7\n")
    assert own(tmp_path / "own.csv").rows["utm_east"].isna().tolist() == [True, False]
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    (tmp_path / "own.csv").write_text(
        "image,split,utm_east,utm_north,utm_zone\na.jpg,t/database,500000,5000000,32T\nb.jpg,t/queries,500000,5000000,\n"
    )
    problems = verify(own(tmp_path / "own.csv"), 25.0, 1).problems
    assert problems[problems["severity"] == "error"]["problem"].tolist() == [
        "no utm_zone, although other images of its set have one; set utm_zone"
    ]


def test_names_that_begin_like_the_naming_say_what_is_wrong_and_keep_their_place(tmp_path):
    for name in ("train/fountain/@541234@4180000@x@.jpg", "test/database/@541234,5@4180000@x@.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        picture(tmp_path / name)
    rows = own(tmp_path).rows.set_index("role")
    assert rows.loc["train", "place_id"] == "fountain"
    assert "541234,5" in rows.loc["database", "problem"]


def test_a_home_folder_is_written_in_full_because_dvc_does_not_expand_it():
    with pytest.raises(ValidationError, match="DVC does not expand ~; write the path in full"):
        CustomParams(**OPTIONS, source="~/photos.csv")


def test_short_names_get_the_zone_of_the_setting_or_stay_metres_on_a_map(tmp_path, capsys):
    for part, east in (("database", 500000), ("queries", 500010)):
        (tmp_path / "test" / part).mkdir(parents=True)
        picture(tmp_path / "test" / part / f"@{east}.0@5000000.0@any@.jpg")
    for zone in (None, "32T"):
        listing = own(tmp_path, utm_zone=zone)
        database, queries = listing.part("test", DATABASE), listing.part("test", QUERY)
        assert [p.tolist() for p in positives_of(database, queries, 25.0)] == [[0]]
        assert set(listing.rows["utm_zone"]) == {zone or ""}
        assert ("2 file names without a UTM zone" in capsys.readouterr().err) == (zone is None)
    with pytest.raises(ValidationError, match="'33' is not a UTM zone"):
        own(tmp_path, utm_zone="33")


def test_absolute_paths_inside_the_dataset_s_folder_are_its_images(tmp_path):
    rows = f"image,split,place_id\n{tmp_path}/a/b.jpg,train,1\n./a/c.jpg,train,1\n/elsewhere/d.jpg,train,1\n"
    (tmp_path / "own.csv").write_text(rows)
    assert own(tmp_path / "own.csv").train()["image"].tolist() == ["/elsewhere/d.jpg", "a/b.jpg", "a/c.jpg"]


GOOD = pd.DataFrame(
    {
        "image": [f"{k}.jpg" for k in range(6)],
        "split": ["train", "train", "test/database", "test/database", "test/queries", "test/queries"],
        "place_id": ["a", "a", "b", "c", "b", "c"],
    }
)
ENCODED = {
    "latin.csv": GOOD.replace("a", "é").to_csv(index=False).encode("latin-1"),
    "utf16.csv": GOOD.to_csv(index=False).encode("utf-16"),
    "empty.csv": b"",
    "ragged.csv": GOOD.to_csv(index=False).encode() + b"1,2,3,4,5\n",
    "open.csv": GOOD.to_csv(index=False).encode() + b'"6.jpg,train\n',
    "cut.parquet": b"PAR1" + bytes(100),
    "longer.csv": b"image,split,place_id\nx,0.jpg,train,a\n",
    "twice.csv": b"image,split,image\n0.jpg,train,1.jpg\n",
    "wide.csv": ",".join(["image", "split", *map(str, range(100_000))]).encode() + b"\n",
}


@pytest.mark.parametrize("name", ENCODED)
def test_a_file_that_is_no_table_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(ENCODED[name])
    began = time.monotonic()
    message = "cannot be read as a table: .*; expected CSV in UTF-8 or Parquet$"
    with pytest.raises(
        UserError, match=f"{name}: {'the file is in UTF-16; save it as CSV' if 'utf16' in name else message}"
    ):
        own(tmp_path / name)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "column",
    [[[1, 2]], [{"a": 1}], [b"x"], [None], ["x"], [pd.Timestamp("2020-01-01")], [pd.Timestamp("2020-01-01", tz="UTC")]],
    ids=["lists", "mappings", "bytes", "nothing", "texts", "times", "times with a zone"],
)
@pytest.mark.parametrize("name", ["own", "index", "level_0", "row", "image_db", "problem", "0"])
def test_columns_of_any_name_and_kind_pass(tmp_path, data_root, name, column):
    for image in GOOD["image"]:
        picture(tmp_path / image, colour=(int(image[0]), 0, 0))
    GOOD.assign(**{"index": 1, name: column * 6}).to_parquet(tmp_path / "t.parquet")
    write_manifest(own(tmp_path / "t.parquet"), tmp_path / "listing")
    verified = verify(read_manifest(tmp_path / "listing"), 25.0, 1)
    assert len(verified.manifest.rows) == 6
    write_parts(verified.manifest, tmp_path / "parts", "test")
    assert to_csv(read_manifest(tmp_path / "parts/validation.parquet").rows)


def test_large_ids_stay_apart_where_others_are_missing(tmp_path):
    ids = [1234567890123456789, 1234567890123456790, None, 4, 5, 6]
    table = pa.table({"image": GOOD["image"], "split": GOOD["split"], "place_id": pa.array(ids, pa.int64())})
    pq.write_table(table, tmp_path / "t.parquet")
    listed = own(tmp_path / "t.parquet").rows.set_index("image")["place_id"]
    assert listed.sort_index().to_list() == ["1234567890123456789", "1234567890123456790", "", "4", "5", "6"]
    GOOD.assign(place_id=pd.array(ids, dtype="Int64")).to_parquet(tmp_path / "t.parquet")
    assert own(tmp_path / "t.parquet").rows.set_index("image")["place_id"].to_dict() == listed.to_dict()


def test_a_zone_has_one_spelling(tmp_path, data_root):
    for image in GOOD["image"]:
        picture(tmp_path / image, colour=(int(image[0]), 0, 0))
    placed = GOOD.assign(utm_east=5e5, utm_north=5e6, utm_zone=["05T", "5T"] * 3)
    placed.to_csv(tmp_path / "t.csv", index=False)
    verified = verify(own(tmp_path / "t.csv"), 25.0, 1)
    assert set(verified.manifest.rows["utm_zone"]) == {"5T"}
    placed.assign(utm_zone="²T", lat=45.0, lon=9.0).to_csv(tmp_path / "t.csv", index=False)
    problems = verify(own(tmp_path / "t.csv"), 25.0, 1).problems["problem"]
    assert "utm_zone is not a zone: '²T'; expected a zone such as 32T" in problems.to_list()


def test_a_path_with_a_nul_is_a_problem_of_its_row(tmp_path, data_root):
    for image in GOOD["image"]:
        picture(tmp_path / image, colour=(int(image[0]), 0, 0))
    GOOD.replace("1.jpg", "1\0.jpg").to_parquet(tmp_path / "t.parquet")
    verified = verify(own(tmp_path / "t.parquet"), 25.0, 1)
    assert len(verified.manifest.rows) == 5
    assert "its path holds a NUL character, which no file name may contain" in verified.problems["problem"].to_list()


def test_a_file_whose_name_is_not_in_utf8_is_named(tmp_path):
    folder = tmp_path / "photos" / "train"
    folder.mkdir(parents=True)
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg"))).write_bytes(b"")
    with pytest.raises(UserError, match=r"the path b'train/caf\\xe9.jpg' is not in UTF-8; rename the file or folder"):
        own(tmp_path / "photos")


def test_a_missing_source_says_which_key_to_set(tmp_path):
    with pytest.raises(UserError, match=r"set datasets.custom.images.source in params.yaml"):
        own(tmp_path / "nowhere.csv")


def test_a_folder_in_the_standard_naming_is_read(tmp_path):
    name = "@0500000.00@4649776.22@32@T@042.00000@0009.00000@p@@090@@@@201907@{}@.jpg"
    picture(tmp_path / "train" / "rome" / name.format("12_Rome"))
    picture(tmp_path / "town" / "database" / name.format(""))
    picture(tmp_path / "town" / "queries" / name.format(""))
    picture(tmp_path / "queries" / "mine.png")
    picture(tmp_path / "queries" / "note.txt.png")
    (tmp_path / "readme.txt").write_text("no image")
    listing = own(tmp_path)
    assert listing.train()[["place_id", "utm_east", "heading"]].to_numpy().tolist() == [["Rome/12", 500000.0, 90.0]]
    assert listing.set_names() == ["test", "town"]
    assert listing.part("test", QUERY)["utm_east"].isna().all()


def test_the_unlabelled_photos_of_san_francisco_are_read(shared):
    listing = own(shared / "sf_toy")
    assert (len(listing.part("test", DATABASE)), len(listing.part("test", QUERY))) == (17, 5)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture(tmp_path / "a.jpg", size=(20, 10), exif=exif)
    assert open_image(tmp_path / "a.jpg").size == (10, 20)
    listing = make_manifest(
        "t", str(tmp_path), pd.DataFrame({"image": ["a.jpg"], "role": ["train"], "place_id": ["1"]})
    )
    row = verify(listing, 25.0).manifest.rows.iloc[0]
    assert (row["width"], row["height"]) == (10, 20)


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a.jpg: cannot be read as an image"):
        open_image(tmp_path / "a.jpg")


# Verify.


@pytest.fixture
def damaged(tmp_path, data_root):
    """A dataset with one of each kind of damage; good images are a.jpg, d.jpg and q.jpg."""
    for name in ("a", "d", "q", "far", "half"):
        picture(tmp_path / f"{name}.jpg", size=(64, 48))
    content = (tmp_path / "half.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "own.csv").write_text(
        "image,split,place_id,lat,lon\n"
        "a.jpg,train,1,45,7\n"
        "a.jpg,train,1,45,7\n"
        "gone.jpg,train,1,45,7\n"
        "half.jpg,train,1,45,7\n"
        "text.jpg,train,1,45,7\n"
        "../a.jpg,train,1,45,7\n"
        "d.jpg,s/database,,45,7\n"
        "a.jpg,s/database,,95,7\n"
        "q.jpg,s/queries,,45,7\n"
        "far.jpg,s/queries,,46,7\n"
    )
    return own(tmp_path / "own.csv")


def test_verify_lists_all_problems_not_the_first(damaged):
    result = verify(damaged, 25.0, num_workers=1)
    errors = result.problems[result.problems["severity"] == "error"]
    found = {(row.image, row.role): row.problem for row in errors.itertuples()}
    assert found.pop(("a.jpg", TRAIN)) == "listed twice with the same role"
    assert found.pop(("gone.jpg", TRAIN)) == "the file is missing"
    assert found.pop(("half.jpg", TRAIN)).startswith("cannot be decoded: OSError")
    assert found.pop(("text.jpg", TRAIN)).startswith("not an image but a text")
    assert (
        found.pop(("../a.jpg", TRAIN)) == "its path leaves the dataset's folder; give paths relative to it, or set root"
    )
    assert found.pop(("a.jpg", DATABASE)) == "lat and lon are not a position on earth; are they swapped?"
    assert found == {}
    sound = result.manifest.rows[["image", "role"]].to_numpy().tolist()
    assert sorted(sound) == [["a.jpg", "train"], ["d.jpg", "database"], ["far.jpg", "query"], ["q.jpg", "query"]]
    assert result.statistics["num_left_out"] == 6
    warnings = result.problems[result.problems["severity"] == "warning"]
    assert sorted(warnings[["image", "problem"]].to_numpy().tolist()) == [
        ["d.jpg", "leakage: the same content as a training image: a.jpg"],
        ["far.jpg", "a query without any positive in its database"],
        ["far.jpg", "leakage: the same content as a training image: a.jpg"],
        ["far.jpg", "the same content as an image of its database: d.jpg"],
        ["q.jpg", "leakage: the same content as a training image: a.jpg"],
        ["q.jpg", "the same content as an image of its database: d.jpg"],
    ]
    assert result.statistics["num_leaked"] == 3
    assert result.statistics["sets"]["s"]["num_queries_without_positives"] == 1
    strict = verify(damaged, 25.0, num_workers=1, queries_without_positives="leave_out")
    assert "far.jpg" not in set(strict.manifest.rows["image"])
    assert strict.statistics["num_left_out"] == 7
    assert (result.manifest.rows["sha256"].str.len() == 64).all()


def test_coordinates_off_the_map_or_missing_for_some_are_problems(tmp_path, data_root):
    for name in "abcd":
        picture(tmp_path / f"{name}.jpg")
    (tmp_path / "own.csv").write_text(
        "image,split,place_id,utm_east,utm_north,utm_zone\n"
        "a.jpg,s/database,,500000,5000000,32T\n"
        "b.jpg,s/database,,5,5000000,32T\n"
        "c.jpg,s/database,,,,\n"
        "d.jpg,s/queries,,500000,,32T\n"
    )
    problems = verify(own(tmp_path / "own.csv"), 25.0).problems.set_index("image")["problem"]
    assert problems["b.jpg"] == "utm_east or utm_north is not a UTM coordinate in metres"
    assert problems["c.jpg"] == "no coordinates, although other images of its set have them"
    assert problems["d.jpg"] == "only one of utm_east and utm_north is given"


def test_a_number_that_is_none_is_a_problem_not_an_unknown(tmp_path, data_root):
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    (tmp_path / "own.csv").write_text(
        'image,split,place_id,lat,lon\na.jpg,s/database,,"45,5",7\nb.jpg,s/database,,45.5,7\nc.jpg,s/queries,,45.5,7\n'
    )
    problems = verify(own(tmp_path / "own.csv"), 25.0).problems
    errors = problems[problems["severity"] == "error"]
    assert errors[["image", "problem"]].to_numpy().tolist() == [["a.jpg", "lat is not a number: 45,5"]]
    (tmp_path / "own.csv").write_text("image,split,place_id,heading\na.jpg,train,a,inf\nb.jpg,train,a,90\n")
    problems = verify(own(tmp_path / "own.csv"), 25.0).problems["problem"].to_list()
    assert problems == ["heading is not a number: inf"]


def test_a_training_image_without_a_place_is_a_problem(tmp_path, data_root):
    picture(tmp_path / "a.jpg")
    (tmp_path / "own.csv").write_text("image,split,place_id\na.jpg,train,\n")
    assert verify(own(tmp_path / "own.csv"), 25.0).problems["problem"].tolist() == [
        "a training image without a place id"
    ]


def test_photos_on_both_sides_of_a_zone_s_border_are_near_each_other(tmp_path, data_root):
    for name in "abcd":
        picture(tmp_path / f"{name}.jpg")
    # Two metres apart across 48 degrees north, where the band changes, and across Greenwich, where the zone does.
    (tmp_path / "own.csv").write_text(
        "image,split,place_id,lat,lon\n"
        "a.jpg,north/database,,47.99999,7.8\nb.jpg,north/queries,,48.00001,7.8\n"
        "c.jpg,west/database,,51.5,-0.00001\nd.jpg,west/queries,,51.5,0.00001\n"
    )
    north, west = (
        pd.read_csv(tmp_path / "own.csv").query(f"split.str.startswith('{name}')") for name in ("north", "west")
    )
    for part in (north, west):
        part.to_csv(tmp_path / "part.csv", index=False)
        (counts,) = verify(own(tmp_path / "part.csv"), 25.0).statistics["sets"].values()
        assert counts["num_queries_without_positives"] == 0


def test_degrees_fill_in_where_a_row_has_no_utm(tmp_path):
    (tmp_path / "own.csv").write_text(
        "image,split,place_id,utm_east,utm_north,lat,lon,width\na.jpg,train,1,,,45,7,wide\nb.jpg,train,1,5e5,5e6,45,7,wide\n"
    )
    rows = own(tmp_path / "own.csv").rows
    assert rows["utm_east"].tolist() == pytest.approx([500_000 - 157_631, 500_000], abs=2)
    assert rows["own_width"].tolist() == ["wide", "wide"]


def test_a_set_that_is_missing_or_lacks_a_part_is_refused(tmp_path):
    (tmp_path / "own.csv").write_text("image,split,place_id\na.jpg,s/queries,1\n")
    listing = own(tmp_path / "own.csv")
    with pytest.raises(UserError, match="eval_sets and val_set: dataset custom has no evaluation set 'vla'; it has: s"):
        check_sets(listing, ["vla"])
    with pytest.raises(UserError, match="evaluation set 's' has no database"):
        check_sets(listing, ["s"])


def test_unlabelled_queries_need_no_positive(tmp_path, data_root):
    for name in ("database/a", "queries/b"):
        picture(tmp_path / "photos" / f"{name}.jpg")
    assert set(verify(own(tmp_path / "photos"), 25.0).problems["severity"]) == {"warning"}


def test_verify_reads_a_file_again_only_when_it_has_changed(tmp_path, data_root, monkeypatch):

    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    listing = make_manifest(
        "t", str(tmp_path), pd.DataFrame({"image": ["a.jpg", "b.jpg"], "role": "train", "place_id": "1"})
    )
    first = verify(listing, 25.0).manifest.rows
    picture(tmp_path / "b.jpg", colour=(0, 0, 0), size=(30, 10))
    read = []
    real = files._read_file
    monkeypatch.setattr(files, "_read_file", lambda folder, image: read.append(image) or real(folder, image))
    second = verify(listing, 25.0, num_workers=1).manifest.rows
    assert read == ["b.jpg"]
    assert second["sha256"][0] == first["sha256"][0]
    assert second["sha256"][1] != first["sha256"][1]
    assert second["width"].tolist() == [20, 30]


def test_a_manifest_is_read_as_it_was_written(tmp_path, city):
    write_manifest(city, tmp_path / "m.parquet")
    again = read_manifest(tmp_path / "m.parquet")
    pd.testing.assert_frame_equal(again.rows, city.rows)
    assert (again.name, again.root) == (city.name, city.root)
    write_manifest(again, tmp_path / "n.parquet")
    assert (tmp_path / "n.parquet").read_bytes() == (tmp_path / "m.parquet").read_bytes()
    with pytest.raises(UserError, match="no evaluation set 'tokyo'; it has: night, test, val"):
        again.part("tokyo", QUERY)
    with pytest.raises(UserError, match="dvc repro verify"):
        read_manifest(tmp_path / "none.parquet")
