"""Values from a file that others made: mappings, lists, texts and numbers, and not too many of them."""

from __future__ import annotations

from typing import Any

MAX_VALUES = 1_000_000


def require_plain(content: Any, max_values: int = MAX_VALUES) -> None:
    """Refuse what JSON could not hold.

    A list may stand in a pickle once and be named a million times; each time counts.

    Raises:
        ValueError: for a value of another type, a key that is no text, or more than ``max_values`` of them.
    """
    waiting, number = [content], 0
    while waiting:
        value = waiting.pop()
        number += 1
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ValueError("a key that is not a text")
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif not (value is None or isinstance(value, (str, int, float))):
            raise ValueError(f"a value of the type {type(value).__name__}")
        if number + len(waiting) > max_values:
            raise ValueError(f"more than {max_values:,} values")
