"""Measure the time to open the report of a set with 1,000 queries, and its size.

Run: PYTHONPATH=src python benchmarks/report.py
Writes benchmarks/report.json. Images are drawn at random, as large as those of GSV-Cities XS (400 x 300); the browser
is the Chromium on the path.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from playwright.sync_api import sync_playwright

from vpr.data.manifest import DATABASE, QUERY, Manifest, make_manifest
from vpr.evaluation.evaluation import evaluate_ranking
from vpr.localization.confidence import Calibration
from vpr.report.report_page import render
from vpr.report.sections import Report, TrainingSection
from vpr.report.set_section import SetInput, set_section
from vpr.report.thumbnails import THUMB_BYTES, Thumbnails
from vpr.retrieval.search import search

NUM_QUERIES, NUM_DATABASE = 1_000, 8_000


def images(folder: Path, number: int) -> list[str]:
    """Files of blurred noise; 300 different ones."""
    rng = np.random.default_rng(0)
    names = []
    for k in range(number):
        names.append(f"{k:05}.jpg")
        if k < 300:
            noise = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
            noise.resize((400, 300)).filter(ImageFilter.GaussianBlur(3)).save(folder / names[-1], quality=90)
        else:
            (folder / names[-1]).symlink_to(folder / names[k % 300])
    return names


def main() -> None:
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        names = images(folder, NUM_DATABASE + NUM_QUERIES)
        east = rng.uniform(0, 4000, len(names))
        rows = pd.DataFrame(
            {
                "image": names,
                "role": [DATABASE] * NUM_DATABASE + [QUERY] * NUM_QUERIES,
                "set": "s",
                "utm_east": 500_000 + east,
                "utm_north": 4_000_000 + rng.uniform(0, 4000, len(names)),
                "utm_zone": "32T",
                "light": rng.choice(["day", "night"], len(names)),
            }
        )
        manifest = make_manifest("random", str(folder), rows)
        parts = [Manifest("random", str(folder), manifest.part("s", role)) for role in (DATABASE, QUERY)]
        descriptors = [rng.normal(size=(len(p.rows), 64)).astype(np.float32) for p in parts]
        for d in descriptors:
            d /= np.linalg.norm(d, axis=1, keepdims=True)
        result = evaluate_ranking(*search(*descriptors, 20), parts[0].rows, parts[1].rows, [1, 5], 25.0)
        given = SetInput("s", parts[0], parts[1], result.predictions, result.metrics)
        started = time.perf_counter()
        thumbnails = Thumbnails(THUMB_BYTES)
        calibration = Calibration("s", 100, "within 25 m", 20, (0.5, 0.1), (0.1, 0.1), (-1.0, 1.0), 0.0)
        section = set_section(given, 25.0, calibration, thumbnails, None)
        report = Report("1,000 queries", "", [], ["run"], [section], thumbnails.encoded, TrainingSection())
        page = folder / "report.html"
        page.write_text(render(report), encoding="utf-8")
        written = time.perf_counter() - started
        opened = []
        with sync_playwright() as driver:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for _ in range(3):
                tab = browser.new_page()
                started = time.perf_counter()
                tab.goto(page.as_uri())
                tab.wait_for_selector("body[data-ready=yes]")
                tab.locator(".card img").first.wait_for()
                opened.append(time.perf_counter() - started)
            browser.close()
        measured = {
            "queries": NUM_QUERIES,
            "queries_with_thumbnails": len(section.cards),
            "megabytes": round(page.stat().st_size / 1e6, 1),
            "seconds": {"to write": round(written, 1), "to open, median of 3": round(sorted(opened)[1], 2)},
        }
    Path(__file__).with_suffix(".json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
