"""Runs beside each other, and the paired test against its definition."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from vpr.config.errors import UserError
from vpr.config.params import Params
from vpr.experiments.comparison import compare, formatted, seed_groups
from vpr.experiments.paired_test import in_words, paired_test
from vpr.experiments.paper import Setting, paper_overrides, paper_settings, read_paper
from vpr.experiments.runs import Run, distinct_names
from vpr.experiments.store import without_passwords

ROOT = Path(__file__).parents[3]


def predictions(found: list[bool]) -> pd.Series:
    """Return for each query whether its first prediction is right."""
    return pd.Series(found, index=[f"q{k}" for k in range(len(found))])


def test_the_p_value_is_that_of_the_exact_mcnemar_test():
    # 9 queries found by the second alone, 2 by the first alone.
    first = [False] * 9 + [True] * 2 + [True] * 20 + [False] * 5
    second = [True] * 9 + [False] * 2 + [True] * 20 + [False] * 5
    test = paired_test(predictions(first), predictions(second))
    assert (test.only_first, test.only_second, test.num_queries) == (2, 9, 36)
    assert test.difference == pytest.approx(7 / 36)
    assert test.p_value == pytest.approx(2 * sum(comb(11, k) for k in range(3)) / 2**11)
    back = paired_test(predictions(second), predictions(first))
    assert back.difference == -test.difference
    assert back.p_value == test.p_value
    assert "may be chance" in in_words("val", "a", "b", test)


def test_runs_of_the_same_name_are_told_apart():
    one, two = Run("0123456789", "same", {}), Run("abcdefghij", "same", {})
    assert distinct_names(one, two) == ("same (01234567)", "same (abcdefgh)")
    assert distinct_names(one, Run("x", "other", {})) == ("same", "other")


def test_the_interval_is_that_of_queries_drawn_again():
    rng = np.random.default_rng(0)
    first, second = rng.random(400) < 0.5, rng.random(400) < 0.6
    test = paired_test(predictions(first.tolist()), predictions(second.tolist()))
    gain = second.astype(int) - first.astype(int)
    drawn = [gain[rng.integers(0, 400, 400)].mean() for _ in range(4000)]
    assert test.interval == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.01)
    same = paired_test(predictions([True, False]), predictions([True, False]))
    assert (same.p_value, same.difference, same.interval) == (1.0, 0.0, (0.0, 0.0))


def test_the_order_of_the_queries_does_not_matter_and_other_queries_are_refused():
    one, two = predictions([True, False, True]), predictions([True, True, False])
    turned = two.iloc[::-1]
    assert paired_test(one, turned) == paired_test(one, two)
    with pytest.raises(UserError, match=r"different queries \(3 and 2, 2 in common\)"):
        paired_test(one, predictions([True, True]))


def run(name: str, recall: float, **params: str) -> Run:
    base = {f"{k}.name": v for k, v in {"agg": "gem", "loss": "L", "miner": "M", "backbone": "resnet18"}.items()}
    base |= {"dataset.name": "synthetic", "train.seed": "42", "train.max_epochs": "8"}
    return Run(name, name, base | params, {"val/recall_at_1": recall, "val/recall_at_5": recall + 0.2})


def test_runs_that_differ_in_the_seed_alone_are_one_row_with_their_spread():
    runs = [
        run("a", 0.5),
        run("b", 0.6, **{"train.seed": "1"}),
        run("c", 0.9, **{"agg.name": "mixvpr"}),
        run("d", 0.52, **{"train.lr": "0.1"}),
    ]
    assert [[r.id for r in group] for group in seed_groups(runs)] == [["a", "b"], ["c"], ["d"]]
    repeated = run("e", 0.1, **{"train.seed": "1"})
    assert [r.id for r in next(iter(seed_groups([*runs, repeated])))] == ["a", "b"]
    other_data = Run("f", "f", runs[0].params | {"train.seed": "9"}, runs[0].metrics, digest="other")
    assert len(seed_groups([*runs, other_data])) == 4
    table = compare(runs)
    assert table["run"].tolist() == ["c", "a and 1 more", "d"]
    assert table["val R@1"].tolist() == ["90.0", "55.0 ± 7.1", "52.0"]
    assert "miner" not in table, "what all have in common is left out"
    assert table["id"].tolist() == ["c", "a", "d"]
    with pytest.raises(UserError, match="no run has the metric 'test/recall_at_1'; choose one of: val/recall_at_1"):
        compare(runs, "test/recall_at_1")
    with pytest.raises(UserError, match="no runs with recalls"):
        compare([])


def test_a_column_is_a_set_by_what_it_holds_not_by_its_name():
    names, found = ["val", "val", "city/val", "val"], [0.5, 0.6, 0.7, 0.8]
    recalls = [{f"{name}/recall_at_1": recall} for name, recall in zip(names, found, strict=True)]
    digests = [{"val": "aaaaaaaaaa"}, {"val": "bbbbbbbbbb"}, {"city/val": "aaaaaaaaaa"}, {}]
    runs = [
        replace(run(name, 0, **{"agg.name": name}), metrics=metrics, set_digests=sets)
        for name, metrics, sets in zip("pqrs", recalls, digests, strict=True)
    ]
    table = compare(runs).set_index("run")
    assert table["val R@1"].to_dict() == {"s": "80.0", "r": "70.0", "p": "50.0", "q": ""}
    assert table["val (bbbbbbbb) R@1"].to_dict() == {"s": "", "r": "", "p": "", "q": "60.0"}
    assert compare(runs, "val (bbbbbbbb)/recall_at_1")["run"].tolist()[0] == "q"


@pytest.mark.parametrize(("style", "expected"), [("table", "---"), ("markdown", "|---"), ("csv", "run,agg")])
def test_the_table_comes_in_three_forms(style, expected):
    text = formatted(compare([run("a", 0.5), run("b", 0.4, **{"agg.name": "avg"})]), style)
    assert expected in text
    assert "50.0" in text


def settings() -> list[Setting]:
    return paper_settings(Params.read(ROOT / "params.yaml"), ROOT / "sweeps/paper.csv", ROOT / "data/sources.yaml")


def paper_run(name: str, row: int, **changes: str) -> Run:
    """A run in the setting of a row of the paper's table, with changes."""
    setting = settings()[row - 1]
    return Run(name, name, setting.others | setting.chosen | changes, {"val/recall_at_1": 0.8, **setting.counts})


def test_the_paper_stands_beside_what_has_its_setting_and_differences_are_named():
    paper = settings()
    row = compare([paper_run("ours", 26)], paper=paper).iloc[0]
    assert (row["paper run"], row["paper val R@1"], row["setting"]) == ("26", "81.00", "the paper's")
    for change, expected in (
        ({"train.lr": "0.001"}, "differs: lr 0.001 instead of 0.0002"),
        ({"dataset.share_of_places": "0.1"}, "differs: dataset.share_of_places 0.1 instead of 1.0"),
        ({"loss.alpha": "99"}, "differs: loss.alpha 99 instead of 1.0"),
        ({"agg.p": "1.0"}, "differs: agg.p 1.0 instead of 3.0"),
        ({"export.checkpoint": "last"}, "differs: export.checkpoint last instead of best"),
    ):
        assert compare([paper_run("other", 26, **change)], paper=paper).iloc[0]["setting"] == expected
    other_set = paper_run("other", 26)
    other_set.metrics["val/num_queries"] = 100.0
    assert "val/num_queries 100 instead of 7993" in compare([other_set], paper=paper).iloc[0]["setting"]
    assert compare([run("own", 0.5)], paper=paper).iloc[0]["setting"] == "not among the paper's runs"


def test_the_setting_is_that_of_the_seed_s_documentation():
    setting = settings()[16]
    assert setting.chosen["agg.descriptor_dim"] == "512"
    expected = {
        "train.weights": "imagenet", "train.layers_to_crop": "[4]", "train.image_size": "[320, 320]",
        "train.places_per_batch": "100", "train.images_per_place": "4", "train.optimizer": "adamw",
        "train.lr": "0.0002", "train.warmup_steps": "600", "train.milestones": "[5, 10, 15, 25]",
        "train.lr_mult": "0.3", "train.augment_ops": "3", "train.precision": "32-true",
        "loss.beta": "50.0", "miner.epsilon": "0.1",
    }  # fmt: skip
    assert {key: setting.others[key] for key in expected} == expected
    assert setting.counts["test/num_database"] == 27191


def test_all_28_reported_runs_are_there_and_can_be_asked_for():
    paper = read_paper(ROOT / "sweeps" / "paper.csv")
    assert len(paper) == 28
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for row in paper:
        for key, value in (item.split("=", 1) for item in paper_overrides(row)):
            node = params
            for part in key.split("."):
                node = node[part]
            if key in ("agg", "loss", "miner"):
                assert value in params[{"agg": "aggregators", "loss": "losses", "miner": "miners"}[key]]
    assert "datasets.gsv_xs.train.max_epochs=30" in paper_overrides(paper[25])


@pytest.mark.parametrize("address", ["postgresql://me:p@ss@host:5432/db", "https://me:p%40ss@host/x", "sqlite:////a/b"])
def test_a_printed_address_of_the_store_has_no_password(address):
    shown = without_passwords(f"MLflow at {address} cannot be asked: {address}")
    assert "ss@" not in shown
    assert shown.count("host") == address.count("host") * 2
    assert (shown.count(":***@") == 2) == ("@" in address)
