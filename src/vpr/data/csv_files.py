"""CSV files whose texts come from users' tables and file names, and are read by spreadsheets and browsers."""

from __future__ import annotations

import re

import pandas as pd

_ANGLES = str.maketrans("<>", "‹›")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def harmless(text: str) -> str:
    """A text that no page runs and no spreadsheet computes.

    ``dvc plots show`` puts the cells of a table into a page as they are, so angle brackets become ‹ and ›. What a
    spreadsheet would take for a formula begins with an apostrophe.
    """
    text = text.translate(_ANGLES)
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") and not _NUMBER.fullmatch(text) else text


def to_csv(rows: pd.DataFrame) -> str:
    """The table as CSV, its texts and column names harmless."""
    safe = rows.rename(columns=lambda name: harmless(str(name)))
    for position, (_, column) in enumerate(safe.items()):
        if not pd.api.types.is_numeric_dtype(column):
            safe.isetitem(position, column.map(lambda cell: harmless(cell) if isinstance(cell, str) else cell))
    return safe.to_csv(index=False)
