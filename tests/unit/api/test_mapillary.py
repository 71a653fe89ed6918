"""Photos of an area, from a server that speaks Mapillary's API."""

from __future__ import annotations

import io
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vpr.api import mapillary
from vpr.api.mapillary import Area, fetch_area, parse_box, split_by_drive, tiles
from vpr.config.errors import UserError
from vpr.data.coordinates import to_utm
from vpr.data.manifest import DATABASE, QUERY
from vpr.data.positions import Positions, near
from vpr.sources.base import Context
from vpr.sources.custom import Custom, CustomParams, photos_with_positions
from vpr.verification.likeness import same_drive

BOX = (9.180, 45.460, 9.192, 45.466)
STEP = 0.00012  # some 10 m


def street(drive: str, lat: float, number: int = 40, day: int = 1, panoramas: bool = False) -> list[dict]:
    """A drive along a parallel."""
    return [
        {
            "id": f"{drive}{k:04d}",
            "computed_geometry": {"type": "Point", "coordinates": [BOX[0] + 0.001 + k * STEP, lat]},
            "captured_at": 1_560_000_000_000 + day * 86_400_000 + k * 1000,
            "compass_angle": 450.0,
            "sequence": drive,
            "creator": {"username": f"driver of {drive}", "id": "1"},
            "is_pano": panoramas,
        }
        for k in range(number)
    ]


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        world, parts = self.server.world, urlsplit(self.path)
        world["asked"].append(self.path)
        if parts.path.startswith("/photos/"):
            if "old" in parts.query or world.get("broken") == parts.path:
                return self.answer(b"expired", 403)
            return self.answer(world["jpeg"])
        if self.headers["Authorization"] != "OAuth secret":
            return self.answer(b"{}", 401)
        if parts.path == "/images":
            query = parse_qs(parts.query)
            west, south, east, north = map(float, query["bbox"][0].split(","))
            assert max(east - west, north - south) <= 0.01 + 1e-6, "the API takes no larger boxes"
            found = []
            for image in world["images"]:
                lon, lat = image["computed_geometry"]["coordinates"]
                if west <= lon <= east and south <= lat <= north:
                    stale = "?old" if image["id"] in world.get("stale", ()) else ""
                    found.append({**image, "thumb_1024_url": f"{world['url']}/photos/{image['id']}{stale}"})
            return self.answer(json.dumps({"data": found[: world["most"]]}).encode())
        return self.answer(json.dumps({"thumb_1024_url": f"{world['url']}/photos{parts.path}"}).encode())


@contextmanager
def server(images: list[dict], most: int = 2000):
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 160)).save(jpeg, "JPEG")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as made:
        url = f"http://127.0.0.1:{made.server_port}"
        made.world = {"images": images, "most": most, "jpeg": jpeg.getvalue(), "url": url, "asked": []}
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield made.world
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("MAPILLARY_TOKEN", "secret")


def fetch(world, folder, **options) -> pd.DataFrame:
    table = fetch_area(Area(BOX, **options), folder, 0.3, 1, 25.0, world["url"])
    return pd.read_csv(table, dtype={"timestamp": str})


def test_queries_and_database_are_of_different_drives_and_each_photo_says_whose_it_is(tmp_path):
    passes = [*street("a", 45.4630), *street("b", 45.46302, day=300), *street("c", 45.46298, day=600)]
    alone, pano = street("alone", 45.4650), street("pano", 45.4630, panoramas=True)
    with server([*passes, *alone, *pano]) as world:
        rows = fetch(world, tmp_path)
    assert len(rows) == 160, "no panoramas"
    queries, database = (rows[rows["split"] == f"street/{part}"] for part in ("queries", "database"))
    assert len(queries) == 40, "a drive as a whole"
    assert not set(queries["sequence"]) & set(database["sequence"])
    assert "alone" not in set(queries["sequence"]), "nothing of the database is where it was"
    assert set(rows["creator"]) == {"driver of a", "driver of b", "driver of c", "driver of alone"}
    assert rows["licence"].str.startswith("CC BY-SA 4.0").all()
    assert rows["page"].str.startswith("https://www.mapillary.com/app/?pKey=").all()
    assert (rows["heading"] == 90).all()
    assert rows["timestamp"].str.fullmatch(r"20(19|20|21)\d{10}").all()
    assert all((tmp_path / image).is_file() for image in rows["image"])
    assert len(photos_with_positions(tmp_path / "images.csv")) == 160, "the project reads its own table"
    params = CustomParams(
        source=str(tmp_path / "images.csv"), root=None, columns={}, splits={}, utm_zone=None, ground_truth={},
        allow_pickle=False, places=None,
    )  # fmt: skip
    listing = Custom("custom").prepare(params, Context())
    assert listing.set_names() == ["street"]
    assert same_drive(listing.part("street", QUERY), listing.part("street", DATABASE)) == 0


def test_sequences_of_one_trip_are_one_drive():
    """Mapillary cuts a trip, and a rig of cameras has a sequence for each."""
    times = ["20200101120000", "20200101121000", "20200101120005", "20200102120000", "20200101120000", "20200101120000"]
    rows = pd.DataFrame(
        {
            "creator": ["ann", "ann", "ann", "ann", "bob", ""],
            "sequence": ["a", "b", "c", "d", "e", "f"],
            "timestamp": times,
        }
    )
    drives = mapillary.drives_of(rows)
    assert drives[0] == drives[1] == drives[2]
    assert len(set(drives)) == 4, "another day, another creator, and one who is not known"


def test_a_run_that_was_interrupted_goes_on(tmp_path):
    with server([*street("a", 45.463), *street("b", 45.46302)]) as world:
        fetch(world, tmp_path)
        (tmp_path / "images" / "a0003.jpg").unlink()
        world["asked"].clear()
        fetch(world, tmp_path)
        assert [urlsplit(path).path for path in world["asked"]] == ["/photos/a0003"]


def test_an_address_that_expired_is_asked_for_again_and_a_photo_that_is_gone_is_left_out(tmp_path, capsys):
    with server([*street("a", 45.463), *street("b", 45.46302)]) as world:
        world["stale"], world["broken"] = {"a0001"}, "/photos/b0002"
        rows = fetch(world, tmp_path)
    assert "images/a0001.jpg" in set(rows["image"])
    assert "images/b0002.jpg" not in set(rows["image"])
    assert "1 images could not be fetched and are left out: images/b0002.jpg" in capsys.readouterr().out


def test_a_box_with_more_photos_than_an_answer_holds_is_cut(tmp_path):
    with server([*street("a", 45.463, 60), *street("b", 45.46302, 60)], most=30) as world:
        world_most, mapillary.MOST = mapillary.MOST, 30
        try:
            rows = fetch(world, tmp_path)
        finally:
            mapillary.MOST = world_most
    assert len(rows) == 120
    assert not rows["image"].duplicated().any()


def test_what_can_not_be_fetched_is_said(tmp_path, monkeypatch):
    with server(street("a", 45.463)) as world:
        with pytest.raises(UserError, match=r"none of 1 drives passes within 25 m of another"):
            fetch(world, tmp_path / "one")
        with pytest.raises(UserError, match="has no images of"):
            fetch(world, tmp_path / "none", since="20300101")
        monkeypatch.setenv("MAPILLARY_TOKEN", "wrong")
        with pytest.raises(UserError, match=r"answers HTTP 401 .*; it requires a token of Mapillary"):
            fetch(world, tmp_path / "denied")
        monkeypatch.delenv("MAPILLARY_TOKEN")
        with pytest.raises(UserError, match="make one at https://"):
            fetch(world, tmp_path / "denied")
    with pytest.raises(UserError, match="whose west is east of its east; swap them"):
        parse_box("9,45,8,46")
    for wrong in ("", "9,45,9", "9,45,9,46", "9,45,10,99", "a,b,c,d", "nan,1,2,3"):
        with pytest.raises(UserError, match="expected west,south,east,north"):
            parse_box(wrong)


def test_a_box_may_lie_over_the_date_line():
    found = tiles(parse_box("179.99,-17,-179.98,-16.99"))
    assert sum(east - west for west, _, east, _ in found) == pytest.approx(0.03)
    assert all(-180 <= west < east <= 180 for west, _, east, _ in found)


@given(st.floats(-179, 178), st.floats(-79, 82), st.floats(0.0005, 0.05), st.floats(0.0005, 0.05))
def test_boxes_cover_an_area_once(west, south, width, height):
    box = (west, south, west + width, south + height)
    found = tiles(box)
    assert all(max(b[2] - b[0], b[3] - b[1]) <= 0.01 + 1e-6 for b in found)
    area = sum((b[2] - b[0]) * (b[3] - b[1]) for b in found)
    assert area == pytest.approx(width * height, rel=1e-6)
    assert (min(b[0] for b in found), max(b[3] for b in found)) == pytest.approx((box[0], box[3]))


@given(st.integers(0, 2**16), st.integers(2, 6), st.floats(0.1, 0.6))
def test_drives_stay_whole_and_most_queries_have_positives(seed, num_drives, share):
    rng = np.random.default_rng(seed)
    lat = np.repeat(45.46 + rng.integers(0, 3, num_drives) * 0.001, 12) + rng.normal(0, 2e-5, 12 * num_drives)
    lon = np.tile(9.18 + np.arange(12) * STEP, num_drives)
    east, north, zone = to_utm(lat, lon)
    drive = [f"d{k}" for k in np.repeat(np.arange(num_drives), 12)]
    rows = pd.DataFrame({"sequence": drive, "utm_east": east, "utm_north": north, "utm_zone": zone})
    rows["split"] = split_by_drive(rows, share, seed, 25.0)
    assert (rows.groupby("sequence")["split"].nunique() == 1).all()
    queries, database = (rows[rows["split"] == f"street/{part}"] for part in ("queries", "database"))
    assert len(database)
    if len(queries):
        found = near(Positions.of(database), Positions.of(queries), 25.0)
        has_one = np.array([len(positives) > 0 for positives in found])
        assert pd.Series(has_one).groupby(queries["sequence"].to_numpy()).mean().min() >= 0.5
