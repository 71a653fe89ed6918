"""Messages steer no terminal, and are not longer than a screen."""

from __future__ import annotations

import pytest

from vpr.config.errors import UserError, exit_code, printable


def test_what_steers_a_terminal_is_written_out(capsys):
    def fail() -> int:
        raise UserError("\x1b[2J\x1b]0;title\x07 is \u202e odd")

    assert exit_code("vpr", fail, "") == 1
    assert capsys.readouterr().err == "vpr: \\x1b[2J\\x1b]0;title\\x07 is \\u202e odd\n"
    assert printable("café\n\tok") == "café\n\tok"


@pytest.mark.parametrize("number", [2001, 689_000])
def test_a_very_long_message_is_shortened(number, capsys):
    def fail() -> int:
        raise UserError("a" * (number - 3) + "end")

    assert exit_code("vpr", fail, "") == 1
    shown = capsys.readouterr().err
    assert len(shown) < 2100
    assert shown.endswith(f"end ({number:,} characters)\n")
