"""The page on performance says what was measured."""

from __future__ import annotations

import json

import pytest
from tools.docs.performance import default_of, exponent, page

from scratch_project import ROOT
from vpr.config.params import Params

RESULTS = ROOT / "benchmarks" / "results"


def test_the_page_is_made_of_the_results(tmp_path):
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page(RESULTS, tmp_path / "performance.png") == text, "run `make docs`"
    assert (tmp_path / "performance.png").is_file()
    machines = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    assert machines
    for machine in machines:
        assert machine["machine"] in text
        for name, part in machine["parts"].items():
            for row in part["rows"]:
                assert (row["what"] if name in ("growth", "indexes") else f"| {row['ratio']:.2f}") in text


def test_recalls_were_measured_with_the_defaults_of_params_yaml():
    for path in RESULTS.glob("*.json"):
        parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
        for name in {"training", "indexes"} & set(parts):
            assert parts[name]["default"] == default_of(Params.read(ROOT / "params.yaml")), (
                f"run `make bench PARTS={name}`"
            )
    indexes = json.loads(next(RESULTS.glob("*.json")).read_text(encoding="utf-8"))["parts"]["indexes"]["rows"]
    for row in indexes:
        metrics = json.loads((ROOT / "metrics/recalls" / f"{row['set']}.json").read_text(encoding="utf-8"))
        assert row["recall_at_1"] == metrics["recall_at_1"]


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5])
def test_the_exponent_is_that_of_the_largest_sizes(power):
    points = [(10, 99.0), *((10**k, 3 * 10.0 ** (k * power)) for k in (2, 3, 4))]
    assert exponent(points) == pytest.approx(power)
