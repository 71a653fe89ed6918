"""The command line: negative coordinates are values, not options."""

from __future__ import annotations

import pytest

from vpr.commands.main import joined, parser


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["localize", "a.jpg", "--near", "-23.55,-46.63", "--within", "100"], "near", "-23.55,-46.63"),
        (["localize", "a.jpg", "--near=-23.55,-46.63"], "near", "-23.55,-46.63"),
        (
            ["fetch", "mapillary", "--bbox", "-46.64,-23.56,-46.63,-23.55", "--out", "x"],
            "bbox",
            "-46.64,-23.56,-46.63,-23.55",
        ),
        (["fetch", "mapillary", "--out", "x", "--bbox", "-.5,1,-.4,2"], "bbox", "-.5,1,-.4,2"),
    ],
)
def test_positions_south_of_the_equator_and_west_of_greenwich_are_values(words, key, value):
    assert vars(parser().parse_args(joined(words)))[key] == value


@pytest.mark.parametrize("words", [["models"], ["localize", "--page", "x.html", "a.jpg"], ["serve", "--port", "5001"]])
def test_other_words_stay_as_they_are(words):
    assert joined(words) == words
