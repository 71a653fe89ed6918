"""The report: its numbers, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vpr.attention import similarity_maps
from vpr.calibration import Calibration
from vpr.datasets.images import Preprocess
from vpr.datasets.manifest import DATABASE, QUERY, Manifest
from vpr.datasets.retrieval_set import ImageList, image_loader
from vpr.evaluation import evaluate_ranking
from vpr.extraction import extract
from vpr.model import ModelSpec, VPRModel
from vpr.report.data import SetInput, Thumbnails, add_heat_maps, add_other, set_data, wilson
from vpr.report.page import render
from vpr.retrieval import search

SPEC = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(24, 32))
CALIBRATION = Calibration("val", 100, "within 25 m", 20, (0.1, 0.1), (0.1, 0.1), (-1.0, 1.0), 0.0)
SMALL = {"salad": {"num_clusters": 8}}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def evaluated(city: Manifest, seed: int) -> tuple[VPRModel, SetInput]:
    """The predictions of a model of random weights."""
    torch.manual_seed(seed)
    model = VPRModel(SPEC).eval()
    parts = [city.part("val", role) for role in (DATABASE, QUERY)]
    descriptors = []
    for rows in parts:
        images = ImageList(city.folder, rows["image"], Preprocess(SPEC.image_size, SPEC.mean, SPEC.std))
        out = np.empty((len(rows), model.descriptor_dim), np.float32)
        extract(model, image_loader(images, 8, 0), out, torch.device("cpu"))
        descriptors.append(out)
    result = evaluate_ranking(*search(*descriptors, 20), *parts, [1, 5], 25.0)
    database, queries = (Manifest(city.name, city.root, rows) for rows in parts)
    return model, SetInput(database, queries, result.predictions, result.metrics)


@pytest.fixture(scope="module")
def shown(city):
    """A set's data with heat maps and a second run, and what they were made of."""
    model, given = evaluated(city, 0)
    _, other = evaluated(city, 1)
    thumbnails = Thumbnails(1_000_000)
    data = set_data("val", given, 25.0, CALIBRATION, thumbnails)
    add_heat_maps(model, given, data)
    return data, given, other, thumbnails


def test_the_interval_is_wilson_s():
    # Brown, Cai and DasGupta 2001 give (0.0, 0.2775) for 0 of 10 and the symmetric one for 10 of 10.
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_the_page_s_numbers_are_those_of_the_evaluation(shown):
    data, given, _, _ = shown
    assert data["curve"][0] == pytest.approx(given.metrics["recall_at_1"], abs=1e-5)
    assert data["curve"][4] == pytest.approx(given.metrics["recall_at_5"], abs=1e-5)
    ranks = np.array(data["queries"]["rank"])
    assert (ranks == 1).mean() == pytest.approx(given.metrics["recall_at_1"])
    first = given.predictions[given.predictions["rank"] == 1]
    within = {row["metres"]: row["share"] for row in data["errors"]}
    assert within[25.0] == pytest.approx((first["distance_m"] <= 25).mean(), abs=1e-4)
    for bars in data["conditions"]:
        assert all(row["low"] <= row["recall"] <= row["high"] for row in bars["rows"])
    by_light = next(bars for bars in data["conditions"] if "distance" in bars["title"] or bars["title"] == "light")
    assert sum(row["n"] for row in by_light["rows"]) <= len(ranks)
    (card,) = [c for c in data["cards"] if c["query"] == 0]
    assert [p["correct"] for p in card["predictions"]] == given.predictions.head(5)["is_positive"].tolist()
    json.dumps(data, allow_nan=False)


def test_thumbnails_are_kept_once_and_within_the_budget(city):
    _, given = evaluated(city, 0)
    small = Thumbnails(5_000)
    data = set_data("val", given, 25.0, None, small)
    assert 0 < len(data["cards"]) < len(given.queries.rows)
    assert small.used < 5_000 + 7 * 8_000  # the last query shown may go beyond
    large = Thumbnails(10_000_000)
    assert len(set_data("val", given, 25.0, None, large)["cards"]) == len(given.queries.rows)
    assert len(large.encoded) <= len(given.queries.rows) + len(given.database.rows)


def test_an_unlabelled_set_has_a_gallery_and_no_recall(city):
    _, given = evaluated(city, 0)
    unknown = given.predictions.assign(is_positive=pd.NA, distance_m=np.nan)
    plain = [
        Manifest(m.name, m.root, m.rows.assign(utm_east=np.nan, place_id="")) for m in (given.database, given.queries)
    ]
    metrics = {"num_queries": len(plain[1].rows), "num_database": len(plain[0].rows), "positives": "none"}
    data = set_data("val", SetInput(*plain, unknown, metrics), 25.0, None, Thumbnails(1_000_000))
    assert (data["labelled"], data["curve"], data["map"]) == (False, [], None)
    assert data["cards"][0]["predictions"][0]["correct"] is None


@pytest.mark.parametrize("aggregator", ["gem", "avg", "cosplace", "salad", "boq", "mixvpr"])
def test_heat_maps_say_where_similarity_comes_from(aggregator):
    """Two images that share one corner alone are similar there."""
    torch.manual_seed(0)
    model = VPRModel(
        ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, aggregator, SMALL.get(aggregator, {}), (64, 64))
    ).eval()
    one, two = torch.randn(3, 64, 64) * 0.05, torch.randn(3, 64, 64) * 0.05
    corner = torch.randn(3, 32, 32) * 3
    one[:, :32, :32] = corner
    two[:, :32, :32] = corner
    for heat in similarity_maps(model, one, two):
        assert heat.shape == (8, 8)
        assert heat.max() == pytest.approx(1.0)
        assert heat.min() >= 0.0
        if aggregator in ("gem", "avg"):  # the others weigh positions, at random before they are trained
            assert heat[:4, :4].mean() > 1.5 * heat[4:, 4:].mean()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def open_page(browser, path: Path, width: int, troubles: list[str]):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else troubles.append(asked.url))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    return page


TRAINING = {"loss": [[1, 2.0], [2, 1.0]], "validation": [[1, 0.2, 0.4]], "informative": [[1, 0.9], [2, 0.8]]}


@pytest.fixture(scope="module")
def path(shown, tmp_path_factory):
    data, _, _, thumbnails = shown
    second = {**data, "name": "second"}
    html = render("A & <b>title</b>", "told", [("a", "b")], ["ours"], [data, second], thumbnails.encoded, TRAINING)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_works_on_a_desk_and_on_a_phone(browser, path, shown, width):
    data, troubles = shown[0], []
    page = open_page(browser, path, width, troubles)
    assert page.title() == "A & <b>title</b>"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    number = len(data["queries"]["rank"])
    found = data["queries"]["rank"].count(1)
    assert page.locator("#map circle.found").count() == found
    assert page.locator("#map path.lost").count() == number - found
    assert page.locator("#map-told").inner_text() == f"{found} of {number} queries found"
    # Every picture and chart has a text beside it.
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.locator("svg[role=img]:not([aria-label])").count() == 0
    assert page.locator("figure svg").count() >= 6
    # Filters.
    page.select_option("#which", "wrong")
    assert page.locator(".card").count() == min(20, number - found)
    shown_states = page.locator(".card h3").all_inner_texts()
    assert all("(found)" not in text for text in shown_states)
    page.select_option("#which", "all")
    title, codes = next(iter(data["queries"]["conditions"].items()))
    page.select_option("#condition", json.dumps([title, 0], separators=(",", ":"), ensure_ascii=False))
    assert page.locator(".card").count() == min(20, codes["codes"].count(0))
    page.select_option("#condition", "")
    page.select_option("#order", "file")
    assert page.locator(".card").first.get_attribute("data-query") == "0"
    # Heat maps.
    page.select_option("#order", "hard")
    assert not page.locator(".card canvas").first.is_visible()
    page.get_by_role("button", name="Heat maps").click()
    assert page.locator(".card canvas").first.is_visible()
    # Another set.
    page.get_by_role("button", name="second").click()
    assert page.locator("#set-title").inner_text().startswith("second: ")
    assert troubles == []
    page.close()


def test_the_map_moves_with_buttons_wheel_and_keys(browser, path):
    troubles: list[str] = []
    page = open_page(browser, path, 1000, troubles)

    def transform() -> tuple[float, float, float]:
        text = page.locator("#map-points").get_attribute("transform")
        return tuple(float(v) for v in re.findall(r"-?[\d.]+(?:e-?\d+)?", text))

    start = transform()
    assert start == (400, 260, 1)
    page.get_by_role("button", name="Zoom in").click()
    assert transform()[2] == pytest.approx(1.5)
    page.locator("#map").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    assert transform() == pytest.approx((360, 260, 2.25))
    page.keyboard.press("0")
    assert transform() == start
    page.locator("#map").click(position={"x": 5, "y": 5})
    page.mouse.wheel(0, -100)
    page.wait_for_timeout(100)
    assert transform()[2] > 1
    page.get_by_role("button", name="Show all").click()
    assert transform() == start
    # Everything can be reached by the keyboard alone.
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"map", "zoom-in", "which", "condition", "order", "heat", "card"} <= reached
    assert troubles == []
    page.close()


def test_two_runs_stand_side_by_side(browser, shown, tmp_path):
    data, given, other, thumbnails = shown
    data = {**data, "cards": [dict(card) for card in data["cards"]]}
    add_other(data, given, other.predictions, other.metrics, thumbnails)
    path = tmp_path / "two.html"
    nothing = {"loss": [], "validation": [], "informative": []}
    path.write_text(render("two", "", [], ["one", "two"], [data], thumbnails.encoded, nothing), encoding="utf-8")
    troubles: list[str] = []
    page = open_page(browser, path, 1280, troubles)
    first, second = (g.predictions[g.predictions["rank"] == 1]["is_positive"].to_numpy(bool) for g in (given, other))
    assert page.locator("#recalls tbody tr").count() == 2
    for choice, expected in (("first", first & ~second), ("second", second & ~first)):
        page.select_option("#which", choice)
        queries = {int(card.get_attribute("data-query")) for card in page.locator(".card").all()}
        assert queries == set(np.flatnonzero(expected)[:20].tolist())
    page.select_option("#which", "all")
    assert page.locator(".card .second").count() == 2 * page.locator(".card").count()
    assert troubles == []
    page.close()
