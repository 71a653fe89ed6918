"""Locate photos: the index, refused photos, and the command line."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from small_model import CALIBRATION, SPEC, located
from vpr.commands import main as cli
from vpr.config.errors import UserError
from vpr.data.manifest import DATABASE, QUERY
from vpr.descriptors.trained_model import Model
from vpr.model.checkpoint import save_checkpoint
from vpr.model.vpr_model import VPRModel
from vpr.serving.index import Index
from vpr.serving.localizer import Localizer
from vpr.serving.located_photos import located_photos
from vpr.serving.photos import from_file, read_photo


def test_an_image_of_the_database_is_found_at_its_own_position(city, localizer):
    row = city.part("val", DATABASE).iloc[5]
    answer = located(localizer, "it", (city.folder / row["image"]).read_bytes(), num_predictions=3)
    assert answer["known"]
    assert (answer["utm_east"], answer["utm_north"]) == (row["utm_east"], row["utm_north"])
    assert len(answer["predictions"]) == 3
    assert answer["predictions"][0]["similarity"] == pytest.approx(1.0, abs=1e-5)
    import utm

    lat, lon = utm.to_latlon(row["utm_east"], row["utm_north"], int(row["utm_zone"][:-1]), row["utm_zone"][-1])
    assert (answer["lat"], answer["lon"]) == pytest.approx((lat, lon), abs=1e-6)
    json.dumps(answer, allow_nan=False)


def test_below_the_confidence_asked_for_the_answer_is_unknown(city, localizer):
    photo = (city.folder / city.part("val", QUERY)["image"].iloc[0]).read_bytes()
    sure = located(localizer, "q", photo)
    assert 0 < sure["confidence"] < 1
    unknown = located(localizer, "q", photo, min_confidence=min(1.0, sure["confidence"] + 0.001))
    assert not unknown["known"]
    assert unknown["lat"] is None
    assert unknown["predictions"] == sure["predictions"]
    with pytest.raises(UserError, match=r"min_confidence is 1\.5; expected a probability"):
        located(localizer, "q", photo, min_confidence=1.5)


def jpeg(size=(40, 30), **options) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, (200, 120, 40)).save(data, options.pop("format", "JPEG"), **options)
    return data.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG of one pixel whose header says it has more."""
    png = jpeg((1, 1), format="PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it: empty"),
        (b"just a text", "it: not an image but a text that begins with 'just a text'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it: not an image"),
        (jpeg()[:300], "it: cannot be decoded: "),
        (claiming(12_000, 10_000), "12000 x 10000 pixels; the limit is 64 million"),
        (claiming(60_000, 60_000), "too many pixels; the limit is 64 million"),
    ],
)
def test_what_is_no_photo_has_a_clear_error_and_does_not_stop_the_others(localizer, content, message):
    wrong, right = (located(localizer, name, each) for name, each in (("it", content), ("good", jpeg())))
    assert message in wrong["error"]
    assert "predictions" in right


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert read_photo(jpeg((40, 30), exif=exif), "it").size == (30, 40)


def test_an_index_is_written_read_and_held_against_its_model(localizer, checkpoint, tmp_path):
    localizer.index.save(tmp_path / "index")
    again = Index.load(tmp_path / "index")
    assert again.calibration == CALIBRATION
    assert np.array_equal(again.descriptors, localizer.index.descriptors)
    other = tmp_path / "other.ckpt"
    save_checkpoint(other, SPEC, VPRModel(SPEC).state_dict(), {})
    with pytest.raises(UserError, match="the index was described by another model"):
        Localizer(Model(other, "cpu"), again)
    with pytest.raises(UserError, match=r"not an index, descriptors\.npy, images\.parquet, index\.json is missing"):
        Index.load(tmp_path)


def gps(lat: float, lon: float) -> Image.Exif:
    exif = Image.Exif()
    tags = exif.get_ifd(ExifTags.IFD.GPSInfo)
    for value, angle, reference, names in (
        (lat, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "NS"),
        (lon, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "EW"),
    ):
        degrees = abs(value)
        tags[angle] = (int(degrees), int(degrees * 60 % 60), round(degrees * 3600 % 60, 4))
        tags[reference] = names[value < 0]
    return exif


def test_a_folder_of_photos_becomes_an_index(city, checkpoint, localizer, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "phone.jpg").write_bytes(jpeg(exif=gps(45.0703, 7.6869)))
    (folder / "somewhere.jpg").write_bytes(jpeg())
    (folder / "@0414182.51@4918084.11@33@T@@@@@@@@@@@.jpg").write_text("no photo")
    named = city.part("val", DATABASE)["image"].iloc[0]
    (folder / Path(named).name).write_bytes((city.folder / named).read_bytes())
    localizer.index.save(tmp_path / "run")
    model = Model(checkpoint, "cpu")
    built = Index.build(folder, model, calibrated=tmp_path / "run", batch_size=4)
    built.save(tmp_path / "index")
    printed = capsys.readouterr().err
    assert "left out: 1 photo without a clear position, starting with somewhere.jpg" in printed
    assert "left out: 1 file that cannot be read, starting with @0414182.51" in printed
    assert len(built.images) == 2
    assert built.calibration == CALIBRATION
    assert built.facts.radius_m == 25.0
    with pytest.raises(UserError, match="is for 25 m, not 10; leave out --radius-m"):
        Index.build(folder, model, 10.0, calibrated=tmp_path / "run")
    assert Index.build(folder, model, 10.0).calibration is None
    again = Localizer(Model(checkpoint, "cpu"), Index.load(tmp_path / "index"))
    answer = located(again, "p", (folder / "phone.jpg").read_bytes())
    assert (answer["lat"], answer["lon"]) == pytest.approx((45.0703, 7.6869), abs=1e-5)
    (folder / "phone.jpg").unlink()
    (folder / Path(named).name).unlink()
    with pytest.raises(UserError, match="none of 1 images has a position"):
        located_photos(folder)


def command(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["vpr", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_the_command_tells_positions_as_text_and_as_json(city, localizer, checkpoint, tmp_path, monkeypatch, capsys):
    localizer.index.save(tmp_path / "index")
    photo = city.folder / city.part("val", DATABASE)["image"].iloc[3]
    where = ("--model", checkpoint, "--index", tmp_path / "index")
    code, out, _ = command(monkeypatch, capsys, "localize", photo, *where)
    assert code == 0
    assert "% likely to be within 25 m\n  confidence: learnt on val of city\n" in out
    assert "1. similarity 1.000" in out
    code, out, _ = command(monkeypatch, capsys, "localize", photo, tmp_path / "gone.jpg", "--format", "json", *where)
    assert code == 1
    right, wrong = json.loads(out)
    assert right["photo"] == str(photo)
    assert wrong["error"].endswith("No such file or directory")
    code, out, _ = command(monkeypatch, capsys, "localize", photo, "--min-confidence", "1", *where)
    assert (code, "unknown" in out) == (0, True)
    code, _, err = command(monkeypatch, capsys, "localize", photo, "--index", tmp_path)
    assert (code, "vpr localize: " in err, "not an index" in err) == (1, True, True)


def test_only_regular_files_are_read(city, checkpoint, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    reasons = {"pipe": "not a file but a", "gone": "No such file or directory", "zero": "not a file but a"}
    for name, why in reasons.items():
        with pytest.raises(UserError, match=why):
            from_file(tmp_path / f"{name}.jpg")
    row = city.part("val", DATABASE).iloc[0]
    (tmp_path / Path(row["image"]).name).write_bytes((city.folder / row["image"]).read_bytes())
    assert len(located_photos(tmp_path)[1]) == 1
    assert "left out: 3 files that cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("radius_m", [-5.0, 0.0, float("nan"), float("inf")])
def test_a_radius_that_is_none_is_refused_before_photos_are_described(tmp_path, checkpoint, radius_m):
    with pytest.raises(UserError, match="expected metres above 0"):
        Index.build(tmp_path, Model(checkpoint, "cpu"), radius_m)


def test_the_command_builds_an_index(city, checkpoint, tmp_path, monkeypatch, capsys):
    folder = city.folder / Path(city.part("val", DATABASE)["image"].iloc[0]).parent
    out_folder = tmp_path / "index"
    code, out, _ = command(
        monkeypatch, capsys, "index", folder, "--out", out_folder, "--model", checkpoint, "--radius-m", 10
    )
    assert code == 0
    assert f"locate others with: vpr localize --index {out_folder} --model {checkpoint} PHOTO" in out
    assert Index.load(out_folder).facts.radius_m == 10
    assert len(pd.read_parquet(out_folder / "images.parquet")) == len(city.part("val", DATABASE))
    code, _, err = command(monkeypatch, capsys, "index", tmp_path / "gone", "--out", out_folder)
    assert (code, "no such folder" in err) == (1, True)


def test_a_confidence_says_where_it_does_not_hold(localizer, checkpoint, tmp_path):
    def note(facts=localizer.index.facts, **changes):
        calibration = replace(CALIBRATION, **changes)
        index = Index(localizer.index.descriptors, localizer.index.images, facts, calibration)
        return Localizer(Model(checkpoint, "cpu"), index).locate(["q"], index.descriptors[:1] * -1)[0].confidence_note

    assert note(usual_distance=2.1) == "learnt on val of city"
    assert "this photo is farther from the database than 95% of those" in note()
    foreign = replace(localizer.index.facts, dataset="")
    assert note(foreign, usual_distance=2.1).endswith("these photos are from elsewhere, so it does not hold here")


@pytest.fixture
def own_photos(city, tmp_path) -> Path:
    """Two photos with positions in a table, in a folder that is in no project."""
    folder = tmp_path / "own"
    folder.mkdir()
    rows = city.part("val", DATABASE).head(2)
    for number, image in enumerate(rows["image"]):
        (folder / f"{number}.jpg").write_bytes((city.folder / image).read_bytes())
    (folder / "photos.csv").write_text(f"image,lat,lon\n0.jpg,45.1,7.6\n{folder}/1.jpg,45.2,7.6\n")
    return folder


def test_a_table_of_photos_becomes_an_index_which_is_not_overwritten(own_photos, checkpoint, monkeypatch, capsys):
    monkeypatch.chdir(own_photos)
    making = ("index", "photos.csv", "--out", "found", "--model", checkpoint)
    assert command(monkeypatch, capsys, *making)[0] == 0
    where = ("--model", checkpoint, "--index", "found")
    code, out, err = command(monkeypatch, capsys, "localize", "1.jpg", *where)
    assert (code, "45.200000, 7.600000" in out) == (0, True)
    assert "no confidence, because found has no calibration" in err
    code, _, err = command(monkeypatch, capsys, *making)
    assert (code, "found is an index already; name another folder" in err) == (1, True)
    assert command(monkeypatch, capsys, *making, "--force")[0] == 0


def test_photos_are_named_by_folders_and_patterns(own_photos, localizer, checkpoint, tmp_path, monkeypatch, capsys):
    localizer.index.save(tmp_path / "index")
    where = ("--model", checkpoint, "--index", tmp_path / "index", "--format", "json")
    for given in (own_photos, f"{own_photos}/*.jpg"):
        code, out, _ = command(monkeypatch, capsys, "localize", given, *where)
        assert code == 0
        assert [answer["photo"] for answer in json.loads(out)] == [str(own_photos / f"{k}.jpg") for k in (0, 1)]
    code, _, err = command(monkeypatch, capsys, "localize", f"{own_photos}/*.png", *where)
    assert (code, "*.png: no images found" in err) == (1, True)


def test_a_command_works_on_the_project_of_the_working_directory(
    own_photos, localizer, checkpoint, tmp_path, monkeypatch, capsys
):
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / "dvc.yaml").touch()
    (project / "params.yaml").touch()
    (project / "src/vpr").mkdir(parents=True)
    shutil.copy(checkpoint, project / "data" / "model.ckpt")
    localizer.index.save(project / "data" / "index")
    (project / "docs").mkdir()
    shutil.copy(own_photos / "0.jpg", project / "docs")
    monkeypatch.chdir(project / "docs")
    code, out, err = command(monkeypatch, capsys, "localize", "0.jpg")
    assert (code, f"project {project}\n" in err, "1. similarity 1.000" in out) == (0, True, True)
    monkeypatch.chdir(own_photos)
    for name in ("dvc.yaml", "params.yaml"):
        (own_photos / name).touch()  # a project of DVC that is none of ours
    code, _, err = command(monkeypatch, capsys, "localize", "0.jpg")
    assert (code, "name it with --project, or name --model and --index" in err) == (1, True)
    assert command(monkeypatch, capsys, "localize", "0.jpg", "--project", project)[0] == 0
    monkeypatch.chdir(own_photos)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, _, err = command(monkeypatch, capsys, "compare", "--project", project)
    assert code == 1
    assert f"sqlite:///{project}/mlruns/mlflow.db does not exist" in err
    assert not (project / "mlruns").exists(), "reading makes nothing"


def test_help_shows_defaults_and_the_version_is_told(monkeypatch, capsys):
    code, out, _ = command(monkeypatch, capsys, "localize", "--help")
    assert (code, "(default: 5)" in " ".join(out.split()), "default: None" in out) == (0, True, False)
    assert re.fullmatch(r"vpr \d+\.\d+\.\d+\n", command(monkeypatch, capsys, "--version")[1])
