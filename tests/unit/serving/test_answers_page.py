"""The page of answers: served for photos that are dropped on it, and written for a folder of photos."""

from __future__ import annotations

import base64
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import requests
import uvicorn
from PIL import Image

from in_browser import watched_page
from running_server import running
from small_model import located
from vpr.commands import main as cli
from vpr.data.manifest import DATABASE, QUERY
from vpr.serving.answers import Prediction
from vpr.serving.answers_page import AnswersPage
from vpr.serving.index import Index
from vpr.serving.server import Limits, Rate, make_app


@contextmanager
def serving(localizer, limits, shown):
    app = make_app(localizer, limits, shown)
    with running(uvicorn.Config(app, lifespan="off", log_level="error", ws="none")) as (_, port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def shown(city, localizer) -> AnswersPage:
    return AnswersPage.of("A & <b>title</b>", localizer.index, city.folder)


def test_the_map_shows_positions_across_bands_and_zones(localizer):
    lat, lon = [48.0001, 47.9999, 48.0001], [11.9999, 12.0001, 12.0001]
    index = Index.of(["a", "b", "c"], localizer.index.descriptors[:3], localizer.model, lat, lon)
    page = AnswersPage.of("borders", index, None)
    rows = index.images.assign(lat=lat, lon=lon).to_dict("records")
    places = [page.map_position(Prediction.of(row, 0.0, 1.0)) for row in rows]
    assert len(page.dots) == 3
    assert np.ptp(np.array(places), axis=0) == pytest.approx([14.9, 22.2], abs=0.3)


def opened(browser, address: str, width: int, troubles: list[str]):
    page = watched_page(browser, width, troubles, (address.rpartition("/")[0], "data:", "file:"))
    page.goto(address)
    return page


@pytest.mark.parametrize("width", [1280, 390])
def test_photos_that_are_dropped_are_placed_on_a_map(browser, city, localizer, shown, tmp_path, width):
    queries = city.part("val", QUERY)["image"].iloc[:2]
    files = [city.folder / image for image in queries]
    (tmp_path / "not a photo.jpg").write_text("hello")
    troubles: list[str] = []
    with serving(localizer, Limits(), shown) as address:
        page = opened(browser, f"{address}/", width, troubles)
        assert page.title() == "A & <b>title</b>"
        page.set_input_files("#files", [*files, tmp_path / "not a photo.jpg"])
        page.wait_for_selector("text=3 photos located")
        cards = page.locator(".answer")
        assert cards.count() == 3
        assert "not an image" in cards.nth(0).inner_text(), "the newest is first"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for card, file in ((cards.nth(2), files[0]), (cards.nth(1), files[1])):
            expected = located(localizer, file.name, file.read_bytes())
            text = card.inner_text()
            assert f"{expected['lat']:.6f}, {expected['lon']:.6f}" in text
            assert f"{100 * expected['confidence']:.0f}% likely to be within 25 m" in text
            assert card.locator("figure").count() == 5
            assert card.locator("svg circle.here").count() == 1
            assert card.locator("svg circle.prediction").count() == 5
            assert card.locator("svg circle.database").count() == len(localizer.index)
            for picture in card.locator("img").all():
                picture.scroll_into_view_if_needed()
                picture.evaluate("image => image.decode()")
        page.evaluate(
            """() => { const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File(["x"], "dropped.jpg"));
            const dropped = new DragEvent("drop", { dataTransfer, cancelable: true });
            document.getElementById("drop").dispatchEvent(dropped) }"""
        )
        page.wait_for_selector("text=1 photo located")
        assert "dropped.jpg" in page.locator(".answer").nth(0).inner_text()
        page.close()
    assert troubles == []


def encoded(file) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def test_thirty_clients_at_once_get_what_each_would_alone(city, localizer, shown):
    files = [city.folder / image for image in city.part("val", QUERY)["image"]]
    asked = [files[k % len(files)] for k in range(30)]
    with serving(localizer, Limits(), shown) as address, ThreadPoolExecutor(30) as clients:

        def ask(file):
            return requests.post(f"{address}/answers", json={"photos": [encoded(file)]}, timeout=60).json()

        found = list(clients.map(ask, asked))
    for file, answer in zip(asked, found, strict=True):
        expected = located(localizer, "photo 1", file.read_bytes())
        (given,) = answer["predictions"]
        assert {key: given[key] for key in expected if key != "predictions"} | {
            "predictions": [{key: each[key] for key in expected["predictions"][0]} for each in given["predictions"]]
        } == expected


def test_pictures_cost_no_more_than_a_request_may(city, localizer, shown):
    file = city.folder / city.part("val", QUERY)["image"].iloc[0]
    asked = {"photos": [encoded(file)], "params": {"num_predictions": 500}}
    with serving(localizer, Limits(), shown) as address:
        refused = requests.post(f"{address}/answers", json=asked, timeout=60)
        assert (refused.status_code, "with pictures at most 20" in refused.text) == (400, True)
        assert requests.post(f"{address}/invocations", json=asked, timeout=60).status_code == 200


def test_an_address_may_ask_so_often_a_minute(city, localizer, shown):
    file = city.folder / city.part("val", QUERY)["image"].iloc[0]
    with serving(localizer, Limits(per_minute=2), shown) as address:
        answers = [requests.post(f"{address}/answers", json={"photos": [encoded(file)]}, timeout=60) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
        assert "the limit is 2 photos per minute" in answers[2].json()["error"]
        assert requests.get(f"{address}/ping", timeout=10).json() == {"status": "up"}


def test_a_minute_is_a_minute_and_addresses_do_not_share_it():
    now = 0.0
    rate = Rate(2, lambda: now)
    assert [rate.wait_s("a"), rate.wait_s("a"), rate.wait_s("b")] == [0, 0, 0]
    now = 59.0
    assert rate.wait_s("a") == 1
    now = 60.0
    assert [rate.wait_s("a"), rate.wait_s("a"), rate.wait_s("a")] == [0, 0, 60]
    assert Rate(0).wait_s("a") == 0
    now = 0.0
    rate = Rate(5, lambda: now)
    assert rate.wait_s("a", 4) == 0
    now = 30.0
    assert rate.wait_s("a", 2) == 30, "one of the four has to be a minute ago"
    assert rate.wait_s("a", 1) == 0
    now = 60.0
    assert rate.wait_s("a", 4) == 0


def test_the_server_says_what_it_takes(localizer, shown):
    with serving(localizer, Limits(), shown) as address:
        described = requests.get(f"{address}/openapi.json", timeout=10).json()
        assert set(described["paths"]) == {"/invocations", "/answers", "/ping"}
        body = described["paths"]["/answers"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert "photos" in body["properties"]
        page = requests.get(f"{address}/docs", timeout=10).text
        assert "POST /answers" in page
        assert "http" not in page.replace("https://json-schema.org", ""), "it asks no other server for anything"
        policy = requests.get(f"{address}/", timeout=10).headers["Content-Security-Policy"]
        assert "connect-src 'self'" in policy


def test_a_name_leads_to_no_photo_outside_the_database_s_folder(city, localizer, shown, tmp_path):
    image = city.part("val", DATABASE)["image"].iloc[0]
    assert shown._picture(image).startswith("data:image/jpeg;base64,")
    (tmp_path / "secret.jpg").write_bytes((city.folder / image).read_bytes())
    sibling = image.replace("val/database", "../database")
    assert (city.folder / "val/queries" / sibling).is_file()
    assert AnswersPage.of("t", localizer.index, city.folder / "val/queries")._picture(sibling) is None
    assert shown._picture(str(tmp_path / "secret.jpg")) is None
    assert AnswersPage.of("t", localizer.index, None)._picture(image) is None


def test_a_folder_of_photos_becomes_one_page(browser, city, checkpoint, localizer, tmp_path, monkeypatch, capsys):
    localizer.index.save(tmp_path / "index")
    (tmp_path / "mine").mkdir()
    for number, image in enumerate(city.part("val", QUERY)["image"].iloc[:2]):
        shutil.copy(city.folder / image, tmp_path / "mine" / f"<script> & {number}.jpg")
    command = ["vpr", "localize", "mine", "--model", str(checkpoint), "--index", str(tmp_path / "index")]
    command += ["--page", "page.html", "--pictures", "drawn", "--database-photos", str(city.folder)]
    monkeypatch.setattr("sys.argv", command)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0, capsys.readouterr().err
    troubles: list[str] = []
    page = opened(browser, (tmp_path / "page.html").as_uri(), 800, troubles)
    assert [each.inner_text() for each in page.locator("h2").all()] == [f"mine/<script> & {k}.jpg" for k in range(2)]
    assert page.locator("figure img").count() == 10
    assert page.locator("#drop").count() == 0
    assert troubles == []
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["1.png", "2.png"]
    with Image.open(tmp_path / "drawn/1.png") as drawn:
        assert drawn.width == 1000
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(1 << 20)}
        assert {(20, 113, 58), (11, 87, 164)} <= colours, "the answer and the predictions are on the map"
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[\w.]+", written))
    assert addresses == {"http://www.w3.org", "https://www.openstreetmap.org"}, "a name of SVG's, and a link to follow"
    page.close()


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 300 + ".jpg", "round/a.jpg", "../../etc/passwd", "/etc/passwd"])
def test_a_name_that_no_photo_can_have_has_no_picture(localizer, tmp_path, name):
    (tmp_path / "round").symlink_to("round")
    page = AnswersPage.of("page", localizer.index, tmp_path)
    assert page.path_of(name) is None
