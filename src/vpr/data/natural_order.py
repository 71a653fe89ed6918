"""Natural order of names: numbers in them count as numbers, so that ``2.jpg`` comes before ``10.jpg``."""

from __future__ import annotations

import re


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key that orders names naturally."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))
