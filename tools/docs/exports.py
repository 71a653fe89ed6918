"""The table of docs/library.md with the speed of exported models, from benchmarks/onnx_export.json."""

from __future__ import annotations

import json
from pathlib import Path

from tools.docs.components import table

BEGIN, END = "<!-- exports: written by make docs -->", "<!-- end of exports -->"


def with_exports(page: str, results: Path) -> str:
    """Return a page with the table between its marks.

    Args:
        page: Text of the page.
        results: ``benchmarks/onnx_export.json``.
    """
    measured = json.loads(results.read_text(encoding="utf-8"))
    rows = [
        [
            f"{row['backbone']} + {row['aggregator']}",
            "×".join(map(str, row["image_size"])),
            str(row["descriptor_dim"]),
            f"{row['megabytes']} MB",
            *(f"{row['images_per_second'][runtime]} images/s" for runtime in ("torch", "onnxruntime")),
            str(row["ratio"]),
        ]
        for row in measured
    ]
    largest = max(row["largest_difference"] for row in measured)
    lines = table(["model", "image", "numbers", "file", "torch", "onnxruntime", "ratio"], rows)
    before, rest = page.split(BEGIN)
    text = f"The largest difference between two descriptors is {largest:.0e}.\n\n{lines}"
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}"
