"""Progress where there is a terminal, and where there is none."""

from __future__ import annotations

import io
import sys

import pytest

from vpr.config import progress as module
from vpr.config.progress import progress


def shown(monkeypatch, every_s: float, is_terminal: bool, total: int | None = 3, **options) -> str:
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "LINE_EVERY_S", every_s)
    with progress(total, "reading", "photos", **options) as bar:
        for _ in range(3):
            bar.update()
    return stream.getvalue()


def test_a_log_gets_readable_lines(monkeypatch):
    often = shown(monkeypatch, 0.0, is_terminal=False)
    assert "\r" not in often
    assert often.startswith("reading: 0 of 3 photos, ? photos/s, ? left\nreading: 1 of 3 photos, ")
    assert often.splitlines()[-1].startswith("reading: 3 photos in 00:00, ")
    assert shown(monkeypatch, 10.0, is_terminal=False).count("\n") == 1, "what is soon done is one line"


def test_a_terminal_gets_a_bar(monkeypatch):
    assert "\rreading: 100%|" in shown(monkeypatch, 10.0, is_terminal=True)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_was_done_before_counts_and_a_total_may_be_unknown(monkeypatch, is_terminal):
    assert "8.00B" in shown(monkeypatch, 10.0, is_terminal, None, done=5, unit_scale=True).replace("photos", "B")
