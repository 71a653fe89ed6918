"""Published recalls: each row can be run, or says what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpr.config.errors import UserError
from vpr.config.params import Params
from vpr.published.reproduction import DATASET, PublishedRecall, beside, overrides, read_published
from vpr.published.table import PUBLISHED
from vpr.sources.base import Context, make_dataset
from vpr.sources.catalogue import EVALUATION, load_sources
from vpr.sources.collection import CollectionParams, uses

ROOT = Path(__file__).parents[3]
ROWS = read_published()
SOURCES = load_sources(ROOT / "data/sources.yaml")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_names_a_model_a_set_with_a_protocol_and_its_source(row):
    assert row.model in PUBLISHED
    assert SOURCES[row.set].layout in EVALUATION
    assert SOURCES[row.set].protocol
    assert row.source.startswith("https://")
    assert all(recall is None or 0 < recall <= 100 for recall in row.recalls)


@pytest.mark.parametrize("name", ["pitts30k", "ie_tower"])
def test_a_set_goes_by_its_own_name_where_a_checkpoint_is_evaluated(name):
    images = Params.read(ROOT / "params.yaml").content["datasets"][DATASET]["images"]
    params, dataset = CollectionParams(**images), make_dataset(DATASET)
    context = Context(catalogue=ROOT / "data/sources.yaml", only_sets=(name,))
    assert uses(params, context) == [(name, "", name)]
    if SOURCES[name].url is None:
        with pytest.raises(UserError, match="url is null"):
            dataset.check_chosen(params, context, "here", [name])
    else:
        dataset.check_chosen(params, context, "here", [name])
    with pytest.raises(UserError, match=r"here\.eval_sets lacks 'pits30k'"):
        dataset.check_chosen(params, context, "here", ["pits30k"])


def test_what_a_row_lacks_is_said(tmp_path):
    row = PublishedRecall("mixvpr_resnet50_4096", "pitts30k", (91.6, None), "https://example.org")
    with pytest.raises(UserError, match=r"is not a published recall \(did you mean 'mixvpr_resnet50_4096/pitts30k'"):
        overrides("mixvpr_resnet50/pitts30k", [row], SOURCES)
    checkpoint = tmp_path / "mixvpr_resnet50_4096.ckpt"
    with pytest.raises(UserError, match=r"pitts30k\.url is null: get the images as docs"):
        overrides(row.name, [row], SOURCES)
    there = {"pitts30k": SOURCES["pitts30k"].model_copy(update={"url": "file:///data/pitts30k"})}
    assert overrides(row.name, [row], there, lambda model: tmp_path / f"{model}.ckpt") == [
        "dataset=benchmarks", f"train.checkpoint={checkpoint}", "eval_sets=[pitts30k]",
    ]  # fmt: skip


def test_ours_stand_beside_the_published_ones():
    row = PublishedRecall("m", "s", (91.6, None), "https://example.org")
    metrics = {"recall_at_1": 0.9, "recall_at_5": 0.95, "num_queries": 10, "num_database": 20, "protocol": "test, 25 m"}
    line = "m/s: R@1 90.0, published 91.6; R@5 95.0 (10 queries, 20 database images, test, 25 m)"
    assert beside(row, metrics) == line
