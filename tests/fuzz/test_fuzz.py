"""A short form of ``make fuzz``: what is in the corpus, and some inputs like it, the same each time."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given, settings

from fuzz.run import attack
from fuzz.targets import CORPUS, TARGETS

KEPT = [path for path in sorted(CORPUS.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.relative_to(CORPUS).as_posix())
def test_what_the_corpus_holds_ends_in_an_answer_or_a_sentence(path):
    attack(TARGETS[path.parent.name], path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_odd_inputs_end_in_an_answer_or_a_sentence(name):
    @settings(max_examples=15, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck))
    @given(TARGETS[name].inputs)
    def go(content: bytes) -> None:
        attack(TARGETS[name], content)

    go()
