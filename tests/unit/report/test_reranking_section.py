"""The section of the report about re-ranking."""

from __future__ import annotations

import json

from PIL import Image

from report_of_city import report_of, shown_city
from vpr.report.report_page import render
from vpr.report.reranking_section import reranking_sections

FOUND = {"num_queries": 200, "num_reranked": 60, "num_candidates": 20, "fixed": 9, "broken": 2}
RECALLS = {"before_recall_at_1": 0.5, "after_recall_at_1": 0.535, "before_recall_at_5": 0.7, "after_recall_at_5": 0.71}


def test_it_shows_what_changed_and_the_matches_and_a_dash_where_there_are_no_labels(city, tmp_path):
    drawn = {"query": "a/<q>.jpg", "prediction": "b/p.jpg", "inliers": 40, "right": True, "was_right": False}
    for name, pictures in (("val", [drawn]), ("photos", [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "drawn.json").write_text(json.dumps(pictures), encoding="utf-8")
    Image.new("RGB", (40, 20)).save(tmp_path / "val" / "0.jpg")
    gate = {"below": 0.4, "weight": 0.1, "calibration": {"set": "val", "num_queries": 200}}
    sets = {"photos": {**FOUND, "num_reranked": 3}, "val": {**FOUND, **RECALLS}}
    del sets["photos"]["fixed"], sets["photos"]["broken"]
    found, text = reranking_sections(tmp_path, {"features": "xfeat", "gate": gate, "weight": 0.1, "sets": sets})
    assert "The first 20 predictions of a query are compared by xfeat features" in text
    assert "similarity + 0.1 × log(1 + inliers)" in text
    assert "confidence below 40 % are re-ranked, a threshold learnt on 200 queries of val" in text
    shown = shown_city(city)
    page = render(report_of("a", ["a"], [shown.section], shown.thumbnails, reranked=found, reranking_text=text))
    assert "<td>60 of 200</td><td>50.0</td><td>53.5</td><td>70.0</td><td>71.0</td><td>9</td><td>2</td>" in page
    assert "<td>3 of 200</td><td>–</td><td>–</td><td>–</td><td>–</td><td>–</td><td>–</td>" in page
    assert "now right, 40 inliers: &lt;q&gt;.jpg in p.jpg" in page


def test_nothing_is_shown_where_the_stage_was_off(tmp_path):
    assert reranking_sections(tmp_path, {}) == ([], "")
