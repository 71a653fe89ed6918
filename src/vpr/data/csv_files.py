"""Convert tables to CSV that is safe to open in spreadsheets and browsers, even if its text comes from strangers."""

from __future__ import annotations

import re

import pandas as pd

_ANGLES = str.maketrans("<>", "‹›")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def harmless(text: str) -> str:
    """Return a string that no page runs as a script and no spreadsheet evaluates as a formula.

    ``dvc plots show`` copies the cells of a table into a page unescaped, so angle brackets become ‹ and ›. A text that
    a spreadsheet would evaluate gets an apostrophe in front.
    """
    text = text.translate(_ANGLES)
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") and not _NUMBER.fullmatch(text) else text


def to_csv(rows: pd.DataFrame) -> str:
    """Return a table as CSV, with strings and column names made ``harmless``."""
    safe = rows.rename(columns=lambda name: harmless(str(name)))
    for position, (_, column) in enumerate(safe.items()):
        if not pd.api.types.is_numeric_dtype(column):
            safe.isetitem(position, column.map(lambda cell: harmless(cell) if isinstance(cell, str) else cell))
    return safe.to_csv(index=False)
