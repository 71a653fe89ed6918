"""The report's numbers are those of the evaluation."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from report_of_city import evaluated, shown_city
from vpr.data.manifest import Manifest
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.report.condition_bars import wilson
from vpr.report.heat_maps import similarity_maps
from vpr.report.set_section import SetInput, set_section
from vpr.report.thumbnails import Thumbnails

SMALL = {"salad": {"num_clusters": 8}}


@pytest.fixture(scope="module")
def shown(city):
    return shown_city(city)


def test_the_interval_is_wilson_s():
    # Brown, Cai and DasGupta 2001 give (0.0, 0.2775) for 0 of 10 and the symmetric one for 10 of 10.
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_the_page_s_numbers_are_those_of_the_evaluation(shown):
    section, given = shown.section, shown.given
    assert section.curve[0] == pytest.approx(given.metrics["recall_at_1"], abs=1e-5)
    assert section.curve[4] == pytest.approx(given.metrics["recall_at_5"], abs=1e-5)
    ranks = np.array(section.queries.rank)
    assert (ranks == 1).mean() == pytest.approx(given.metrics["recall_at_1"])
    first_m = given.predictions.distance_m[:, 0]
    within = {row.metres: row.share for row in section.errors}
    assert within[25.0] == pytest.approx((first_m <= 25).mean(), abs=1e-4)
    # A bar is the recall of the queries that have its value, which the filter of the gallery counts as well.
    assert {bars.title for bars in section.conditions} >= {"distance to the nearest positive"}
    for bars in section.conditions:
        codes = section.queries.conditions[bars.title]
        for row in bars.rows:
            chosen = np.array(codes["codes"]) == codes["values"].index(row.value)
            assert row.n == chosen.sum()
            assert row.recall == pytest.approx((ranks[chosen] == 1).mean())
            assert row.low <= row.recall <= row.high
    (card,) = [c for c in section.cards if c.query == 0]
    assert [p.correct for p in card.predictions] == given.predictions.is_positive[0, :5].tolist()
    json.dumps(asdict(section), allow_nan=False)


def test_thumbnails_are_kept_once_and_within_the_budget(city):
    _, given = evaluated(city, 0)
    small = Thumbnails(5_000)
    section = set_section(given, 25.0, None, small, None)
    assert 0 < len(section.cards) < len(given.queries.rows)
    # A card is begun within the budget; the last one, of a query, 5 predictions and a positive, may go beyond it.
    sizes = [len(base64.b64decode(one)) for one in small.encoded]
    assert sum(sizes) == small.used
    assert small.used - sum(sizes[-7:]) < 5_000
    large = Thumbnails(10_000_000)
    section = set_section(given, 25.0, None, large, None)
    assert len(section.cards) == len(given.queries.rows)
    shown_images = {given.queries.rows["image"].iloc[card.query] for card in section.cards}
    for card in section.cards:
        shown_images |= set(given.predictions.images[card.query, :5])
    with_positives = sum(card.positive is not None for card in section.cards)
    assert len(shown_images) <= len(large.encoded) <= len(shown_images) + with_positives


def test_an_unlabelled_set_has_a_gallery_and_no_recall(city):
    _, given = evaluated(city, 0)
    unknown = replace(
        given.predictions, is_positive=None, distance_m=np.full_like(given.predictions.distance_m, np.nan)
    )
    plain = [
        Manifest(m.name, m.root, m.rows.assign(utm_east=np.nan, place_id="")) for m in (given.database, given.queries)
    ]
    metrics = {"num_queries": len(plain[1].rows), "num_database": len(plain[0].rows), "positives": "none"}
    section = set_section(SetInput("val", *plain, unknown, metrics), 25.0, None, Thumbnails(1_000_000), None)
    assert (section.labelled, section.curve, section.map) == (False, [], None)
    assert section.cards[0].predictions[0].correct is None


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
