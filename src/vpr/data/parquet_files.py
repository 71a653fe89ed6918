"""Read Parquet files of strangers: their size is known before they take memory."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MAX_ROWS, MAX_CELLS = 10_000_000, 300_000_000


def read_parquet(path: Path) -> pa.Table:
    """Read a table, with plain values instead of dictionaries.

    Raises:
        ValueError: if it has more rows or cells than any dataset, which compress to almost nothing, or other than
            UTF-8 text.
        ArrowException: if the file is not a Parquet file, or is damaged.
    """
    size = pq.read_metadata(path)
    if size.num_rows > MAX_ROWS or size.num_rows * size.num_columns > MAX_CELLS:
        raise ValueError(
            f"{size.num_rows:,} rows of {size.num_columns:,} columns; the limits are {MAX_ROWS:,} rows and "
            f"{MAX_CELLS:,} cells"
        )
    table = pq.read_table(path)
    plain = [
        column.cast(kind.value_type) if pa.types.is_dictionary(kind := column.type) else column
        for column in table.columns
    ]
    for column in plain:
        column.validate(full=True)
    return pa.table(plain, names=table.column_names)
