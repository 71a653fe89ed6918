"""One page that shows what came in: counts, problems, maps and contact sheets; it works offline."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from vpr.data.images import open_image
from vpr.data.manifest import DATABASE, QUERY, Manifest, city_of
from vpr.retrieval.positives import has_coordinates, positives_of, utm_of
from vpr.verification.checks import kind_of
from vpr.verification.counts import count_differences

SHEET_COLUMNS, TILE_PX, LABEL_PX = 8, (128, 96), 16
NUM_PLACES, NUM_ROWS = 6, 2
MAX_POINTS = 20_000  # of a map; more would only be drawn over each other
SHOWN_PROBLEMS = 20


def dataset_page(manifest: Manifest, problems: pd.DataFrame, statistics: dict[str, Any], radius_m: float) -> str:
    """The page, as HTML with its pictures in it.

    Args:
        manifest: the sound rows; their images are on the disk.
        problems, statistics: of ``vpr.verification.checks.Verified``.
        radius_m: a database image within it is a positive.
    """
    with rc_context({"text.parse_math": False}):  # a $ in a name is a $
        sections = [_training(manifest, statistics)] if len(manifest.train()) else []
        sections += [_evaluation_set(manifest, name, radius_m) for name in manifest.set_names()]
    kinds = problems.assign(problem=kind_of(problems["problem"]))
    kinds = kinds.groupby(["severity", "problem"], sort=True).size().reset_index(name="rows")
    template = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return page.from_string(template).render(
        name=manifest.name,
        statistics=statistics,
        counts=_counts(statistics.get("sources", {})),
        kinds=kinds.to_dict("records"),
        problems=problems.head(SHOWN_PROBLEMS).to_dict("records"),
        sections=sections,
    )


def _counts(sources: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, source in sorted(sources.items()):
        for what, found in source["found"].items():
            if what == "city_names":
                continue
            expected = source["expected"].get(what)
            words = count_differences({name: {**source, "expected": {what: expected}}}) if expected is not None else []
            if isinstance(expected, list):
                numbers = isinstance(expected[0], int)
                text = f"{expected[0]:,} to {expected[1]:,}" if numbers else f"{len(expected)}"
            else:
                text = "" if expected is None else f"{expected:,}"
            rows.append(
                {"source": name, "what": what, "found": f"{found:,}", "expected": text, "differs": " ".join(words)}
            )
    return rows


def _training(manifest: Manifest, statistics: dict[str, Any]) -> dict[str, Any]:
    train = manifest.train()
    sizes = train.groupby("place_id").size()
    pictures = [_figure(_histogram(sizes), "How many places have how many images")]
    if train["utm_east"].notna().any():
        pictures.append(_figure(_place_maps(train), "Map of the training places of each city"))
    rows = []
    for place in _spread(sorted(sizes.index), NUM_PLACES):
        images = train.loc[train["place_id"] == place, "image"].tolist()
        rows.append((f"place {place}, {len(images)} images", images[:SHEET_COLUMNS]))
    pictures.append(_sheet(manifest, rows, f"Images of {len(rows)} training places"))
    text = (
        f"{len(train):,} images of {len(sizes):,} places, {sizes.min()} to {sizes.max()} images of a place, "
        f"median {sizes.median():g}."
    )
    return {
        "title": "Training",
        "text": text,
        "cities": statistics.get("cities"),
        "pictures": pictures,
    }


def _evaluation_set(manifest: Manifest, name: str, radius_m: float) -> dict[str, Any]:
    database, queries = manifest.part(name, DATABASE), manifest.part(name, QUERY)
    positives = positives_of(database, queries, radius_m)
    text = f"{len(database):,} database images, {len(queries):,} queries"
    found = None
    if positives is None:
        text += "; no labels, so no recall."
    else:
        found = np.array([len(p) > 0 for p in positives], dtype=bool)
        middle = float(np.median([len(p) for p in positives])) if positives else 0.0
        text += f"; {int((~found).sum()):,} queries have no positive; the median query has {middle:g}."
    pictures = []
    if has_coordinates(database) and has_coordinates(queries):
        pictures.append(_figure(_map(database, queries, found), f"Map of database and queries of {name}"))
    rows = []
    for role, part in (("database", database), ("queries", queries)):
        images = _spread(part["image"].tolist(), NUM_ROWS * SHEET_COLUMNS)
        for k in range(0, len(images), SHEET_COLUMNS):
            rows.append((role, images[k : k + SHEET_COLUMNS]))
    pictures.append(_sheet(manifest, rows, f"Images of database and queries of {name}"))
    origin = f" ({queries['source'].iloc[0]})" if "source" in queries and len(queries) else ""
    return {"title": f"Evaluation set {name}{origin}", "text": text, "cities": None, "pictures": pictures}


def _histogram(sizes: pd.Series) -> Figure:
    figure = Figure(figsize=(7.2, 2.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    counts = sizes.value_counts().sort_index()
    axes.bar(counts.index, counts.to_numpy(), color="#4477aa")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(min(counts.index) - 1, max(counts.index) + 1)
    axes.set_xlabel("images of a place")
    axes.set_ylabel("places")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _place_maps(train: pd.DataFrame) -> Figure:
    """A small map for each city, at a scale of its own."""
    places = (
        train.assign(city=city_of(train))
        .groupby(["city", "place_id"])[["utm_east", "utm_north"]]
        .mean()
        .reset_index("city")
    )
    cities = sorted(set(places["city"]))
    columns = min(4, len(cities))
    lines = -(-len(cities) // columns)
    figure = Figure(figsize=(2.25 * max(columns, 2), 2.4 * lines), dpi=110, layout="constrained")
    grid = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for axes in grid[len(cities) :]:
        axes.set_visible(False)
    for axes, name in zip(grid, cities, strict=False):
        here = places[places["city"] == name]
        xy = _thinned(here[["utm_east", "utm_north"]].to_numpy())
        x, y = (xy - xy.min(axis=0)).T / 1000
        axes.scatter(x, y, s=1, color="#4477aa", linewidths=0)
        axes.set_title(f"{name or 'all'}, {len(here):,} places", fontsize=8)
        axes.set_aspect("equal", adjustable="datalim")
        axes.tick_params(labelsize=6)
    figure.supxlabel("km east", fontsize=8)
    figure.supylabel("km north", fontsize=8)
    return figure


def _map(database: pd.DataFrame, queries: pd.DataFrame, found: Any) -> Figure:
    figure = Figure(figsize=(7.2, 6), dpi=120, layout="constrained")
    axes = figure.subplots()
    points = utm_of(database)
    origin = points.min(axis=0)
    asked = utm_of(queries)
    if found is None:
        found = np.ones(len(queries), dtype=bool)
    for xy, size, colour, label in (
        (points, 3, "#bbbbbb", f"database ({len(points):,})"),
        (asked[found], 5, "#228833", f"queries ({int(found.sum()):,})"),
        (asked[~found], 14, "#cc3311", f"queries without a positive ({int((~found).sum()):,})"),
    ):
        if len(xy):
            x, y = (_thinned(xy) - origin).T / 1000
            axes.scatter(x, y, s=size, color=colour, linewidths=0, label=label)
    axes.set_aspect("equal", adjustable="datalim")
    zone = str(database["utm_zone"].iloc[0])
    axes.set_xlabel(f"km east of {origin[0]:,.0f} m{f', zone {zone}' if zone else ''}")
    axes.set_ylabel(f"km north of {origin[1]:,.0f} m")
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.08), ncols=3, frameon=False, fontsize=8, markerscale=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _thinned(points: Any) -> Any:
    return points[:: -(-len(points) // MAX_POINTS)] if len(points) > MAX_POINTS else points


def _figure(figure: Figure, alt: str) -> dict[str, Any]:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    width, height = (int(v) for v in figure.get_size_inches() * figure.dpi)
    return _picture(out.getvalue(), "png", alt, width, height)


def _sheet(manifest: Manifest, rows: list[tuple[str, list[str]]], alt: str) -> dict[str, Any]:
    """Rows of images, each with a label above it."""
    width, height = TILE_PX
    sheet = Image.new("RGB", (SHEET_COLUMNS * width, max(1, len(rows)) * (height + LABEL_PX)), "white")
    draw = ImageDraw.Draw(sheet)
    for r, (label, images) in enumerate(rows):
        top = r * (height + LABEL_PX)
        draw.text((4, top + 2), label, fill="black")
        for c, image in enumerate(images):
            tile = open_image(manifest.folder / image)
            tile.thumbnail(TILE_PX)
            sheet.paste(tile, (c * width + (width - tile.width) // 2, top + LABEL_PX + (height - tile.height) // 2))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=85)
    return _picture(out.getvalue(), "jpeg", alt, *sheet.size)


def _picture(content: bytes, kind: str, alt: str, width: int, height: int) -> dict[str, Any]:
    data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return {"data": data, "alt": alt, "width": width, "height": height}


def _spread(items: list[str], num: int) -> list[str]:
    if len(items) <= num:
        return items
    return [items[int(k)] for k in np.linspace(0, len(items) - 1, num)]
