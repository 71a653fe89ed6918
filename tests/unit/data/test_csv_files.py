"""Texts of users' tables in CSV files."""

from __future__ import annotations

import io
import string

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr.data.csv_files import harmless, to_csv


@given(st.text(string.ascii_letters + "<>=+-@\t\r'\"&;$ 0123456789", max_size=12))
def test_no_cell_opens_a_tag_or_begins_a_formula(text):
    safe = harmless(text)
    assert not set(safe) & set("<>")
    if safe[:1] in tuple("=+-@\t\r"):
        float(safe)  # a number is one with its sign


@pytest.mark.parametrize("text", ["night", "-0.5", "+1e-05", "a=b", "São Paulo", ""])
def test_ordinary_texts_and_numbers_stay_as_they_are(text):
    assert harmless(text) == text


def test_names_of_columns_and_cells_are_harmless_and_numbers_stay_numbers():
    script = "<img src=x onerror=alert(1)>"
    table = pd.DataFrame({script: ["=HYPERLINK(1)", script], "recall": [0.5, -1.0]})
    text = to_csv(table)
    assert "<" not in text
    read = pd.read_csv(io.StringIO(text))
    assert read["recall"].tolist() == [0.5, -1.0]
    assert read.iloc[:, 0].tolist() == ["'=HYPERLINK(1)", "‹img src=x onerror=alert(1)›"]
