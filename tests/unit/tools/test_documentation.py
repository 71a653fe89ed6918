"""README.md and the docs agree with the code and with committed measurements."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from tools.docs import parameters
from tools.docs.blocks import with_blocks
from tools.docs.chaos import chaos_table
from tools.docs.components import cost
from tools.docs.exports import with_exports
from tools.docs.readme import with_names, with_recalls
from tools.docs.reruns import rerun_tables

from vpr.experiments.print_recalls import recall_table
from vpr.model.aggregators import AGGREGATORS
from vpr.model.backbones import BACKBONES, build_backbone
from vpr.sources.base import DATASETS
from vpr.training.losses import LOSSES
from vpr.training.miners import MINERS

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DATASETS_PAGE = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
UNTRAINED = json.loads((ROOT / "benchmarks" / "untrained.json").read_text(encoding="utf-8"))
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def test_the_table_is_that_of_the_committed_metrics():
    assert with_recalls(README, ROOT / "params.yaml") == README, "run `make docs`"
    assert recall_table(ROOT / "metrics" / "recalls", PARAMS["eval_sets"]) in README


def test_the_table_of_exports_is_that_of_the_committed_measurement():
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    assert with_exports(page, ROOT / "benchmarks" / "onnx_export.json") == page, "run `make docs`"


def test_the_result_rows_are_those_of_the_committed_metrics():
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", DATASETS_PAGE, re.MULTILINE)
    assert [row[0] for row in rows] == PARAMS["eval_sets"]
    for name, untrained, r1, r5 in rows:
        metrics = json.loads((ROOT / "metrics" / "recalls" / f"{name}.json").read_text(encoding="utf-8"))
        assert (f"{100 * metrics['recall_at_1']:.1f}", f"{100 * metrics['recall_at_5']:.1f}") == (r1, r5)
        assert float(untrained) == pytest.approx(100 * UNTRAINED[name], abs=0.05)
        assert float(untrained) < 25 < 25 + float(untrained) <= float(r1) < 95


TOWER = json.loads((ROOT / "benchmarks" / "ie_tower.json").read_text(encoding="utf-8"))
CITY = json.loads((ROOT / "benchmarks" / "city.json").read_text(encoding="utf-8"))
SEEDS = [row["plain"] for name, row in TOWER.items() if name.startswith("fit-")]


def mean(values: list[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f}"


def test_the_recalls_on_real_photos_are_those_that_were_measured():
    number = r"\s+([\d.]+)"
    said = rf"reaches R@1{number} and R@5{number}.*?R@1{number} and\s+R@5{number}\s+with re-ranking.*?"
    shown = re.search(rf"{said}R@1{number}\s+over\s+drives", DATASETS_PAGE, re.DOTALL).groups()
    of_test = [row["test"] for row in SEEDS]
    assert shown == (
        mean([found["recall_at_1"] for found in of_test]),
        mean([found["recall_at_5"] for found in of_test]),
        mean([found["reranked"]["after_recall_at_1"] for found in of_test]),
        mean([found["reranked"]["after_recall_at_5"] for found in of_test]),
        mean([found["sequence_recall_at_1"] for found in of_test]),
    )
    assert f"mean of {['', 'one', 'two', 'three'][len(SEEDS)]} seeds" in DATASETS_PAGE
    made = subprocess.run(["make", "-n", "real"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    settings = [
        each for each in SEEDS[0]["settings"] if "{" not in each and not each.startswith(("eval", "train.seed"))
    ]
    assert all(setting in made for setting in settings)


def test_the_table_of_what_helps_on_real_photos_is_what_was_measured():
    text = (ROOT / "docs" / "reranking.md").read_text(encoding="utf-8")
    for name, row in TOWER.items():
        for how, sets in row.items():
            for set_name in {"val", "test", "day", "night"} & set(sets):
                found, reranked = sets[set_name], sets[set_name]["reranked"]
                pairs = [(found, "recall"), (reranked, "after_recall"), (found, "sequence_recall")]
                shown = [f"{100 * of[f'{key}_at_1']:.1f} / {100 * of[f'{key}_at_5']:.1f}" for of, key in pairs]
                centred = "yes" if how == "centred" else ""
                counts = f"{reranked['num_reranked']} of {reranked['num_queries']}"
                line = f"| `{name}` | {set_name} | {centred} | {shown[0]} | {shown[1]}, {counts} | {shown[2]} |"
                assert line in text, line


def test_the_table_of_what_helps_on_the_city_is_what_was_measured():
    text = (ROOT / "docs" / "reranking.md").read_text(encoding="utf-8")
    text = " ".join(text[text.index("On the embedded city") :].split())
    told = set(re.findall(r"\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", text))
    ours = {tuple(f"{100 * row[name]['recall_at_1']:.1f}" for name in ("val", "test", "night")) for row in CITY}
    assert told
    assert told <= ours
    plain = [row for row in CITY if row["batches"] == "similar" and row["miner"] == "none" and len(row) == 8]
    for agg, words in (("cosplace", "the default has {}, {} and {}"), ("gem", "with GeM {}, {} and {}")):
        seeds = [row for row in plain if row["agg"] == agg]
        assert sorted(row["seed"] for row in seeds) == [1, 2, 42]
        found = [mean([row[name]["recall_at_1"] for row in seeds]) for name in ("val", "test", "night")]
        assert words.format(*found) in text
    default = next(row for row in plain if row["seed"] == 42 and row["agg"] == "cosplace")
    for name in ("val", "test", "night"):
        committed = json.loads((ROOT / "metrics/recalls" / f"{name}.json").read_text(encoding="utf-8"))
        assert default[name]["recall_at_1"] == committed["recall_at_1"]


def test_the_costs_of_half_a_million_images_are_those_that_were_measured():
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    measured = json.loads((ROOT / "benchmarks" / "half_million.json").read_text(encoding="utf-8"))
    shown = [float(s) for s in re.findall(r"^\| .* \| ([\d.]+) s \|$", text, re.MULTILINE)]
    assert sorted(shown) == sorted(s for what, s in measured["seconds"].items() if not what.startswith("all other"))
    assert measured["seconds"]["dvc repro, nothing changed"] < 5
    assert f"{measured['dvc_cache_mb']} MB" in text
    verifying = json.loads((ROOT / "benchmarks" / "verifying.json").read_text(encoding="utf-8"))
    assert f"verified in {verifying['seconds']['verify, first time']:g} s" in text


def test_the_datasets_page_has_every_source():
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    headings = " ".join(re.findall(r"^### (.*)$", text, re.MULTILINE))
    sources = yaml.safe_load((ROOT / "data" / "sources.yaml").read_text(encoding="utf-8"))
    assert set(re.findall(r"`(\w+)`", headings)) == set(sources)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE))))
def test_every_make_target_named_is_there(target):
    subprocess.run(["make", "--dry-run", "--always-make", target], cwd=ROOT, check=True, capture_output=True)


def test_the_choices_listed_are_those_of_the_tables():
    assert with_names(README) == README, "run `make docs`"
    row = re.search(r"^\| `dataset` \| (.*) \|$", README, re.MULTILINE).group(1)
    names = [re.sub(r" \(.*", "", name).strip() for name in re.split(r", (?![^(]*\))", row)]
    assert sorted(names) == sorted(DATASETS)


def test_every_loss_is_on_the_page_of_components():
    text = (ROOT / "docs" / "components.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in LOSSES)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def key_is_there(dotted: str) -> bool:
    node = PARAMS
    for part in dotted.split("."):
        if part == "<dataset>":
            part = "synthetic"
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_keys_of_params_yaml_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:train|extract|verify|evaluate|export|index)\.[a-z]\w*)`", text))
    named |= set(re.findall(r"`(datasets\.(?:<dataset>|synthetic|custom|gsv_xs)\.(?:train|images)\.\w+)`", text))
    for override in re.findall(r"-S '?\+?(?!data/)([a-z_]+(?:\.\w+)*)=", text):
        named |= {override.removesuffix(".more")} - {"agg"}
    named = {name for name in named if not name.endswith((".parquet", ".csv", ".json"))}
    assert all(key_is_there(key) for key in named), [key for key in named if not key_is_there(key)]
    if page.name == "arguments.md":
        assert len(named) >= 20


def test_the_parameters_page_is_what_the_code_says():
    page = parameters.page(ROOT / "params.yaml")
    assert (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8") == page, "run `make docs`"


def test_params_yaml_lists_every_option_of_every_component():
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert with_blocks(text) == text, "run `make docs`"
    # The values there are the defaults of the signatures.
    for table, registry in (
        ("aggregators", AGGREGATORS),
        ("losses", LOSSES),
        ("miners", MINERS),
        ("backbones", BACKBONES),
    ):
        assert {name: entry.options for name, entry in registry.items()} == PARAMS[table]
    changed = text.replace("gem: {p: 3.0, eps: 1.0e-6}", "gem: {p: 2.5, q: 1}").replace("  avg: {}\n", "")
    changed = changed.replace("    model: convnextv2_nano\n", "    model: resnet10t\n    b: 2\n")
    changed = changed.replace("  vgg16:", "  gone: {a: 1}\n  vgg16:")
    completed = with_blocks(changed)
    assert yaml.safe_load(completed)["backbones"]["timm"] == {**PARAMS["backbones"]["timm"], "model": "resnet10t"}
    assert "gone" not in completed
    blocks = yaml.safe_load(completed)["aggregators"]
    assert (blocks["gem"], blocks["avg"]) == ({"p": 2.5, "eps": 1e-06}, {})
    comments = [line.partition(" #")[2] for line in text.splitlines() if " #" in line]
    assert comments == [line.partition(" #")[2] for line in completed.splitlines() if " #" in line]
    assert completed.startswith(text[: text.index("backbones:")]), "other lines were changed"


def test_the_table_of_what_reruns_is_that_of_dvc_yaml():
    text = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    assert rerun_tables(ROOT / "dvc.yaml") in text, "run `make docs`"


def test_the_counts_of_disturbed_runs_are_those_of_the_last_make_chaos():
    text = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    assert chaos_table(ROOT / "benchmarks" / "chaos.json") in text, "run `make docs`"


def test_every_component_has_its_paper():
    without = {
        name for table in (BACKBONES, AGGREGATORS, LOSSES, MINERS) for name, entry in table.items() if not entry.paper
    }
    assert without == {"avg", "none", "PairMarginMiner", "UniformHistogramMiner"}


def test_the_costs_are_the_known_ones():
    """ResNet-50 has 25.6 M parameters with its classifier of 2.05 M, and 4.09 G multiply-adds at 224 px."""
    with torch.device("meta"):
        network = build_backbone("resnet50", None, layers_to_crop=[]).eval()
        _, parameters, adds = cost(network, torch.zeros(1, 3, 224, 224))
    assert parameters == 25_557_032 - 2_049_000
    assert adds / 1e9 == pytest.approx(4.09, abs=0.01)


def test_the_pipeline_page_names_every_stage():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    text = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| .*\| .*\|$", text, re.MULTILINE)[: len(stages)] == list(stages)


def test_the_page_on_machines_has_what_was_measured_of_large_databases():
    text = (ROOT / "docs" / "machines.md").read_text(encoding="utf-8")
    measured = json.loads((ROOT / "benchmarks" / "lance.json").read_text(encoding="utf-8"))
    assert (measured["photos"], measured["dim"]) == (1_000_000, 512)
    for row in measured["searches"]:
        times = f"| {row['p50_ms']:.1f} ms | {row['p99_ms']:.1f} ms | {row['gib']:.2f} GiB"
        assert f"| {row['how']} {times} | {100 * row['found']:.1f} |" in text
    approximate = measured["searches"][-1]
    assert approximate["gib"] < 1
    assert approximate["p50_ms"] < 20
    assert approximate["found"] >= 0.95
    seconds = measured["seconds"]
    assert seconds["LanceDB: add 1,000 photos"] < 5
    said = [f"takes {seconds['LanceDB: add']:.0f} s", f"in {seconds['LanceDB: add 1,000 photos']} s"]
    said.append(f"effort of a search, here {measured['effort']}")
    assert all(part in " ".join(text.split()) for part in said)
