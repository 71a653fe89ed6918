"""docs/performance.md and its plot, from the files of ``make bench`` in benchmarks/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tools.docs.components import table
from vpr.config.params import COMPONENTS, Params

Machine = dict[str, Any]

_HEAD = """# Performance

*Written by `make docs` from `benchmarks/results/`, which `make bench` writes. A ratio compares the medians of two
programs that took turns in one run; `benchmarks/speed.py` defines the baselines. Brackets show the lowest and the
highest ratio between any two turns.*

A loader process reads a file, decodes it (JPEGs with TorchCodec, whose pixels equal Pillow's, other formats with
Pillow), resizes it, and sends bytes, a quarter of the size of floats. RandAugment and normalisation run on the device
on the whole batch; on a CPU the loader process augments. Decoded images of training and validation are kept in memory,
as many as fit (`train.cache_gb`); images can also be stored once at the training size (`resize.quality`).
"""
_GROWTH = """## What grows with the database

{plot}

{rows}

The exponent is fitted to the three largest sizes: with 1, ten times the images take ten times as long. Verify starts
processes, which takes 5 s, and the report's thumbnails have a fixed budget. By extrapolation, 10⁸ images with
descriptors of 512 numbers need 205 GB in float32, and 1,000 exact queries take {search_s:,.0f} s on this machine; a
compressed index (`evaluate.index`) is then the better choice.
"""


_INDEXES = """## What an index loses

{rows}

The columns are the bytes of a photo in the index, recall@1 in percent, and the share of the 20 nearest photos that the
index finds, for descriptors of {dim} numbers of the embedded city ({default}). `evaluate.index` accepts any of these
names, and adds the recalls of the index to those of exact search. `RFlat` compares the first 100 candidates again by
their full descriptors, which it stores as well.
"""


def page(results: Path, plot: Path) -> str:
    """Return the page, and draw its plot.

    Args:
        results: Folder with a file for each machine.
        plot: File to draw.
    """
    parts = [_HEAD]
    growths = {}
    for path in sorted(results.glob("*.json")):
        machine: Machine = json.loads(path.read_text(encoding="utf-8"))
        parts.append(f"## {machine['machine']}\n\n{_ratios(machine)}\n")
        if "indexes" in machine["parts"]:
            parts.append(_indexes(machine["parts"]["indexes"]))
        if "growth" in machine["parts"]:
            growths[machine["machine"]] = machine["parts"]["growth"]["rows"]
    for rows in growths.values():
        parts.append(_growth(rows, plot))
    parts.append(
        "## Not measured\n\nNothing has been measured on a GPU. `make bench PARTS=gpu` measures two trainings on one.\n"
    )
    return "\n".join(parts)


def default_of(params: Params) -> dict[str, Any]:
    """Return the settings of params.yaml that recalls and training speed depend on, to store with a measurement."""
    components = {key: params.choice(key).as_dict() for key in COMPONENTS}
    return {"dataset": params.dataset, **components, "train": params.raw(f"datasets.{params.dataset}.train")}


def in_words(default: dict[str, Any]) -> str:
    """Return the components of stored settings, such as ``resnet18 + cosplace + NTXentLoss``."""
    return " + ".join(name for key in COMPONENTS if (name := default[key]["name"]) != "none")


def _ratios(machine: Machine) -> str:
    rows = []
    for name, part in machine["parts"].items():
        if name in ("indexes", "growth"):
            continue
        for row in part["rows"]:
            spread = f" ({row['least']:.2f} to {row['most']:.2f})" if "least" in row else ""
            speeds = f"{row['per_s']:,.0f} against {row['baseline_per_s']:,.0f} a second"
            note = f"; {row['note']}" if row.get("note") else ""
            cells = [row["what"], f"{row['rival']} against {row['baseline']}", f"{row['ratio']:.2f}{spread}"]
            rows.append([*cells, f"{row['goal']:g}", speeds + note])
    return table(["part", "what", "ratio", "goal", "measured"], rows)


def _indexes(part: dict[str, Any]) -> str:
    """Return the section with a row for each index, after exact search."""
    rows = part["rows"]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    exact = {row["set"]: f"{100 * row['recall_at_1']:.1f}" for row in rows}
    dim = rows[0]["dim"]
    lines = [["exact", str(4 * dim), *(text for name in sets for text in (exact[name], "100.0"))]]
    for what in dict.fromkeys(row["what"] for row in rows):
        of_set = {row["set"]: row for row in rows if row["what"] == what}
        found = [(of_set[name]["index_recall_at_1"], of_set[name]["index_agreement_at_20"]) for name in sets]
        size = f"{np.median([row['bytes'] for row in of_set.values()]):.0f}"
        lines.append([f"`{what}`", size, *(f"{100 * value:.1f}" for pair in found for value in pair)])
    titles = ["index", "bytes", *(title for name in sets for title in (f"{name} R@1", "found"))]
    return _INDEXES.format(rows=table(titles, lines), dim=dim, default=in_words(part["default"]))


def _growth(rows: list[dict[str, Any]], plot: Path) -> str:
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        lines.setdefault(row["what"], []).append((row["images"], row["seconds"]))
    exponents = {what: exponent(points) for what, points in lines.items()}
    _draw(lines, plot)
    sizes = sorted({size for points in lines.values() for size, _ in points})
    cells = []
    for what, points in lines.items():
        seconds = dict(points)
        shown = [f"{seconds[size]:.3g} s" if size in seconds else "not measured" for size in sizes]
        cells.append([what, *shown, f"{exponents[what]:.2f}"])
    search = next(points for what, points in lines.items() if what.startswith("search"))
    return _GROWTH.format(
        plot=f"![Seconds against images]({plot.name})",
        rows=table(["", *(f"{size:,} images" for size in sizes), "exponent"], cells),
        search_s=search[-1][1] * 1e8 / search[-1][0],
    )


def exponent(points: list[tuple[int, float]]) -> float:
    """Return the slope of seconds against images on logarithmic axes, over the last three sizes."""
    images, seconds = np.log(np.array(points[-3:], dtype=float)).T
    return float(np.polyfit(images, seconds, 1)[0])


def _draw(lines: dict[str, list[tuple[int, float]]], plot: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for what, points in lines.items():
        axes.loglog(*zip(*points, strict=True), marker="o", label=what)
    axes.set(xlabel="images of the database", ylabel="seconds")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(plot, dpi=120, metadata={"Software": None})
    plt.close(figure)
