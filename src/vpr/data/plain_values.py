"""Check values from a stranger's file: only mappings, lists, strings, numbers, booleans and ``None``."""

from __future__ import annotations

from typing import Any

MAX_VALUES = 1_000_000


def require_plain(content: Any, max_values: int = MAX_VALUES) -> None:
    """Refuse content that is not plain data, or that has too many values.

    A pickle can contain a list once and refer to it a million times; every reference counts.

    Raises:
        ValueError: for a value of another type, a key that is not a string, or more than ``max_values`` values.
    """
    waiting, number = [content], 0
    while waiting:
        value = waiting.pop()
        number += 1
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ValueError("a key that is not a string")
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif not (value is None or isinstance(value, (str, int, float))):
            raise ValueError(f"a value of the type {type(value).__name__}")
        if number + len(waiting) > max_values:
            raise ValueError(f"more than {max_values:,} values")
