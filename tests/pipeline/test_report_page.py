"""The report's page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from in_browser import watched_page
from report_of_city import TRAINING, report_of, shown_city
from vpr.data.coordinates import to_degrees
from vpr.data.csv_files import to_csv
from vpr.data.manifest import QUERY
from vpr.report.report_page import render
from vpr.report.set_section import with_other_run


@pytest.fixture(scope="module")
def shown(city):
    return shown_city(city)


def open_page(browser, path: Path, width: int, troubles: list[str]):
    page = watched_page(browser, width, troubles, ("file:", "data:"))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    return page


@pytest.fixture(scope="module")
def path(shown, tmp_path_factory):
    second = replace(shown.section, name="second")
    sets = [shown.section, second]
    report = report_of("A & <b>title</b>", ["ours"], sets, shown.thumbnails, training=TRAINING, model_sha256="abc")
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(report), encoding="utf-8")
    run = {"model_sha256": "abc", "text": "trained in 157 s"}
    (path.parent / "run.js").write_text(f"window.vprRun = {json.dumps(run)};", encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_works_on_a_desk_and_on_a_phone(browser, path, shown, width):
    queries, troubles = shown.section.queries, []
    page = open_page(browser, path, width, troubles)
    assert page.title() == "A & <b>title</b>"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    number = len(queries.rank)
    found = queries.rank.count(1)
    assert page.locator("#map circle.found").count() == found
    assert page.locator("#map path.lost").count() == number - found
    assert page.locator("#map-status").inner_text() == f"{found} of {number} queries found"
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
    title, codes = next(iter(queries.conditions.items()))
    page.select_option("#condition", json.dumps([title, 0], separators=(",", ":"), ensure_ascii=False))
    assert page.locator(".card").count() == min(20, codes["codes"].count(0))
    page.select_option("#condition", "")
    page.select_option("#order", "file")
    assert page.locator(".card").first.get_attribute("data-query") == "0"
    # Heat maps.
    page.select_option("#order", "hard")
    assert page.locator(".card canvas").first.is_visible()
    page.get_by_role("button", name="Heat maps").click()
    assert not page.locator(".card canvas").first.is_visible()
    # R@1 is among the first columns, also on a phone.
    assert page.locator("#recalls thead th").all_inner_texts()[:3] == ["set", "R@1", "R@5"]
    assert page.locator("#recalls thead th").nth(1).bounding_box()["x"] < width / 2
    # Another set.
    page.get_by_role("button", name="second").click()
    assert page.locator("#set-title").inner_text().startswith("second: ")
    assert page.locator("#run").inner_text() == "trained in 157 s"
    assert troubles == []
    page.close()


def test_the_foot_of_another_model_s_run_is_not_shown(browser, path, tmp_path):
    other = tmp_path / "report.html"
    other.write_text(path.read_text(encoding="utf-8").replace('data-model="abc"', 'data-model="def"'), encoding="utf-8")
    shutil.copy(path.with_name("run.js"), tmp_path)
    page = open_page(browser, other, 1000, [])
    assert not page.locator("#run").is_visible()
    page.close()


def test_streets_are_fetched_when_they_are_asked_for_and_lie_where_the_queries_are(browser, path, city):
    fetched: list[str] = []
    pixel = BytesIO()
    Image.new("RGB", (256, 256), "white").save(pixel, "png")

    def answer(route) -> None:
        fetched.append(route.request.url)
        route.fulfill(body=pixel.getvalue(), content_type="image/png")

    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.route(re.compile("^https:"), answer)
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    assert fetched == []
    page.get_by_role("button", name="OpenStreetMap").click()
    page.wait_for_timeout(300)
    assert 1 <= len(fetched) <= 40
    assert all(re.fullmatch(r"https://tile\.openstreetmap\.org/\d+/\d+/\d+\.png", url) for url in fetched)
    assert "OpenStreetMap contributors" in page.locator("#streets-note").inner_text()
    # The slippy map's own formulas, for the first query.
    query = city.part("val", QUERY).iloc[0]
    (lat,), (lon,) = to_degrees(*(np.array([query[c]]) for c in ("utm_east", "utm_north")), [query["utm_zone"]])
    zoom = int(fetched[0].split("/")[3])
    x = 2**zoom * (lon + 180) / 360
    y = 2**zoom * (1 - np.log(np.tan(np.radians(lat)) + 1 / np.cos(np.radians(lat))) / np.pi) / 2
    tile = page.locator(f'#map image[data-tile="{zoom}/{int(x)}/{int(y)}"]').bounding_box()
    mark = page.locator('#map [data-query="0"]').bounding_box()
    assert mark["x"] + mark["width"] / 2 == pytest.approx(tile["x"] + (x % 1) * tile["width"], abs=8)
    assert mark["y"] + mark["height"] / 2 == pytest.approx(tile["y"] + (y % 1) * tile["height"], abs=8)
    before = len(fetched)
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_timeout(300)
    assert len(fetched) > before
    page.get_by_role("button", name="OpenStreetMap").click()
    assert page.locator("#map image").count() == 0
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
    for _ in range(300):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"map", "zoom-in", "which", "condition", "order", "heat", "card"} <= reached
    assert troubles == []
    page.close()


def test_a_mark_of_the_map_leads_to_its_card_and_back_and_images_enlarge(browser, path, shown):
    troubles: list[str] = []
    page = open_page(browser, path, 1000, troubles)
    q = shown.section.cards[-1].query
    page.evaluate("() => { for (const mark of document.querySelectorAll('#map .query')) mark.setAttribute('r', 9) }")
    mark = page.locator(f"#map [data-query='{q}']")
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    found = int(page.evaluate("document.activeElement.dataset.query"))
    same_spot = shown.section.map.queries[found] == pytest.approx(shown.section.map.queries[q], abs=30)
    assert found == q or same_spot, "marks lie over each other"
    card = page.locator(f".card[data-query='{found}']")
    assert card.locator("h3").first.inner_text().startswith(shown.section.queries.title[found])
    card.get_by_role("button", name="On the map").click()
    assert page.locator("#map .chosen").get_attribute("data-query") == str(found)
    zone = shown.section.map.zone
    assert re.fullmatch(rf"\d+ E \d+ N {zone}", page.locator("#map-where").inner_text())
    assert re.fullmatch(r"\d+ k?m", page.locator("#map-scale text").text_content())
    card.get_by_role("button", name="1.: enlarge").click()
    assert page.locator("#large").is_visible()
    assert page.locator("#large img").bounding_box()["width"] > 300
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()
    assert troubles == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_in_light_and_dark(browser, path, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(path.as_uri())
    ink, paper = page.evaluate(
        "() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor] }"
    )
    brightness = [sum(int(v) for v in re.findall(r"\d+", colour)[:3]) / 3 for colour in (ink, paper)]
    assert (brightness[0] < brightness[1]) == (scheme == "light")
    assert abs(brightness[0] - brightness[1]) > 150
    page.close()


def test_a_report_opens_on_the_set_that_nothing_was_chosen_on_and_shows_its_notes(browser, shown, tmp_path):
    sets = [shown.section, replace(shown.section, name="test")]
    report = report_of("title", ["ours"], sets, shown.thumbnails, start="test", notes=["an epoch has 2 batches"])
    (tmp_path / "report.html").write_text(render(report), encoding="utf-8")
    page = open_page(browser, tmp_path / "report.html", 390, [])
    assert page.locator("#set-title").inner_text().startswith("test: ")
    assert page.locator(".caution").inner_text() == "Note: an epoch has 2 batches."
    page.close()


def test_two_runs_stand_side_by_side(browser, shown, tmp_path):
    given, other = shown.given, shown.other
    section = with_other_run(shown.section, given, other.predictions, other.metrics, shown.thumbnails)
    path = tmp_path / "two.html"
    path.write_text(render(report_of("two", ["one", "two"], [section], shown.thumbnails)), encoding="utf-8")
    troubles: list[str] = []
    page = open_page(browser, path, 390, troubles)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    first, second = (each.predictions.is_positive[:, 0] for each in (given, other))
    assert page.locator("#recalls tbody tr").count() == 2
    assert page.locator("#recalls tbody").inner_text().count(" to ") == 2, "both have an interval"
    for choice, expected in (("first", first & ~second), ("second", second & ~first)):
        page.select_option("#which", choice)
        queries = {int(card.get_attribute("data-query")) for card in page.locator(".card").all()}
        assert queries == set(np.flatnonzero(expected)[:20].tolist())
    page.select_option("#which", "all")
    assert page.locator(".card .second").count() == 2 * page.locator(".card").count()
    assert troubles == []
    page.close()


@pytest.mark.parametrize("neutralised", [False, True])
def test_the_cells_of_a_condition_table_run_no_script_in_dvc_s_plots(browser, project, neutralised):
    """DVC puts them into its page as they are, which the first case shows."""
    script = "</script><img src=x onerror=document.title='ran'>"
    table = pd.DataFrame({"condition": ["weather", script], "value": [script, "fog"], "recall_at_1": [0.5, 1.0]})
    text = to_csv(table) if neutralised else table.to_csv(index=False)
    (project.folder / "metrics/conditions/val.csv").write_text(text, encoding="utf-8")
    project("dvc", "plots", "show", "metrics/conditions/val.csv", "--out", "plots_page")
    page = browser.new_page()
    page.goto((project.folder / "plots_page/index.html").as_uri(), wait_until="domcontentloaded")
    page.wait_for_timeout(500)
    assert (page.title() == "ran") is not neutralised
    page.close()
