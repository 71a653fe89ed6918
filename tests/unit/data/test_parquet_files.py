"""Parquet files of strangers: their size is known before they take memory, and their values are plain."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vpr.data.parquet_files import MAX_ROWS, read_parquet


def test_a_small_file_of_millions_of_rows_is_refused_by_its_header(tmp_path):
    column = pa.DictionaryArray.from_arrays(pa.nulls(MAX_ROWS + 1, pa.int8()), pa.array(["a"]))
    pq.write_table(pa.table({"image": column}), tmp_path / "many.parquet")
    assert (tmp_path / "many.parquet").stat().st_size < 100_000
    with pytest.raises(ValueError, match="10,000,001 rows of 1 columns; the limits are 10,000,000 rows"):
        read_parquet(tmp_path / "many.parquet")


def test_dictionaries_become_plain_values(tmp_path):
    pq.write_table(pa.table({"image": pa.array(["a", "b", "a"]).dictionary_encode()}), tmp_path / "d.parquet")
    assert read_parquet(tmp_path / "d.parquet").column("image").type == pa.string()


def test_text_that_is_not_utf8_is_refused(tmp_path):
    text = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"image": text}), tmp_path / "odd.parquet")
    with pytest.raises((ValueError, pa.ArrowException)):
        read_parquet(tmp_path / "odd.parquet")
