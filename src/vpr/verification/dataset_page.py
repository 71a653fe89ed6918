"""Render the page of a dataset: counts, problems, maps and contact sheets. It works offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup
from numpy.typing import NDArray

from vpr.data.images import open_image
from vpr.data.manifest import DATABASE, QUERY, Manifest, city_of
from vpr.data.positions import Plane, Positions
from vpr.evaluation.conditions import condition_columns
from vpr.pages.look import jpeg_url, look, month_in_words
from vpr.retrieval.positives import has_coordinates, positives_of
from vpr.verification.checks import kind_of
from vpr.verification.counts import count_differences

TILE_PX = (160, 120)
NUM_PLACES, IMAGES_OF_A_PLACE, IMAGES_OF_A_SET = 6, 8, 12
MAX_POINTS = 5_000  # on a map; more would overlap
MAX_BARS = 24
NOT_SEEN = ("utm_zone", "city", "source", "place_id")  # columns that no picture shows
MAP_SIZE, SMALL_MAP_SIZE = (800.0, 520.0), (300.0, 220.0)
SECTORS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
SHOWN_PROBLEMS = 20


def dataset_page(manifest: Manifest, problems: pd.DataFrame, statistics: dict[str, Any], radius_m: float) -> str:
    """Return the page as HTML, with its pictures.

    Args:
        manifest: Rows without errors, whose images are on the disk.
        problems, statistics: See ``vpr.verification.checks.Verified``.
        radius_m: Largest distance of a positive, in metres.
    """
    sections = [_training(manifest, statistics)] if len(manifest.train()) else []
    sections += [_evaluation_set(manifest, name, radius_m) for name in manifest.set_names()]
    kinds = problems.assign(problem=kind_of(problems["problem"]))
    kinds = kinds.groupby(["severity", "problem"], sort=True).size().reset_index(name="rows")
    here = Path(__file__).parent
    template = (here / "dataset_page.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return page.from_string(template).render(
        look=look(),
        js=Markup((here / "dataset_page.js").read_text(encoding="utf-8")),
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
    maps = _place_maps(train) if train["utm_east"].notna().any() else []
    rows = []
    for place in _spread(sorted(sizes.index), NUM_PLACES):
        images = train[train["place_id"] == place].head(IMAGES_OF_A_PLACE)
        rows.append((f"place {place}, {sizes[place]} images", _tiles(manifest, images)))
    text = (
        f"{len(train):,} images of {len(sizes):,} places, {sizes.min()} to {sizes.max()} images of a place, "
        f"median {sizes.median():g}."
    )
    charts = [_bars("images of a place: places", sizes), *_when_and_where_to({"": train})]
    return {"title": "Training", "text": text, "cities": statistics.get("cities"), "maps": maps, "rows": rows} | {
        "charts": [chart for chart in charts if chart]
    }


def _evaluation_set(manifest: Manifest, name: str, radius_m: float) -> dict[str, Any]:
    database, queries = manifest.part(name, DATABASE), manifest.part(name, QUERY)
    positives = positives_of(database, queries, radius_m)
    text = f"{len(database):,} database images, {len(queries):,} queries"
    found = np.ones(len(queries), dtype=bool)
    if positives is None:
        text += "; no labels, so no recall."
    else:
        found = np.array([len(p) > 0 for p in positives], dtype=bool)
        middle = float(np.median([len(p) for p in positives])) if positives else 0.0
        text += f"; {int((~found).sum()):,} queries have no positive; the median query has {middle:g}."
    maps = []
    if has_coordinates(database) and has_coordinates(queries):
        positions = [Positions.of(database), Positions.of(queries)]
        plane = Plane(positions)
        seen, asked = map(plane.metres, positions)
        layers = {"database": seen, "found": asked[found], "lost": asked[~found]}
        maps.append(_map(layers, f"Database and queries of {name}", MAP_SIZE, plane.zone))
    parts = {"database": database, "queries": queries}
    rows = [
        (f"{role}: {len(part):,} images", _tiles(manifest, part.iloc[_spread(range(len(part)), IMAGES_OF_A_SET)]))
        for role, part in parts.items()
    ]
    origin = f" ({queries['source'].iloc[0]})" if "source" in queries and len(queries) else ""
    charts = [chart for chart in _when_and_where_to(parts) if chart]
    title = f"Evaluation set {name}{origin}"
    return {"title": title, "text": text, "cities": None, "maps": maps, "rows": rows, "charts": charts}


def _when_and_where_to(parts: dict[str, pd.DataFrame]) -> list[dict[str, Any] | None]:
    """Chart years and headings of each part, if they are known."""
    charts = []
    for role, rows in parts.items():
        begin = f"{role}: " if role else ""
        years = rows["timestamp"].str.extract(r"^(\d{4})", expand=False).dropna()
        charts.append(_bars(f"{begin}images of a year", years))
        headings = rows["heading"].to_numpy(dtype=float)
        sectors = np.round(headings[np.isfinite(headings)] / 45).astype(int) % 8
        counts = np.bincount(sectors, minlength=8)
        bars = [(name, int(count)) for name, count in zip(SECTORS, counts, strict=True)]
        charts.append(_chart(f"{begin}images that look", bars) if len(sectors) else None)
    return charts


def _bars(title: str, values: pd.Series) -> dict[str, Any] | None:
    """Chart how often each value occurs, the last values together if there are many; ``None`` without values."""
    counts = values.value_counts().sort_index()
    if not len(counts):
        return None
    shown = [(str(value), int(count)) for value, count in counts.items()]
    if len(shown) > MAX_BARS:
        rest = sum(count for _, count in shown[MAX_BARS - 1 :])
        shown = [*shown[: MAX_BARS - 1], (f"{shown[MAX_BARS - 1][0]} and more", rest)]
    return _chart(title, shown)


def _chart(title: str, bars: list[tuple[str, int]]) -> dict[str, Any]:
    most = max(1, *(count for _, count in bars))
    return {"title": title, "bars": [(label, f"{count:,}", round(100 * count / most, 1)) for label, count in bars]}


def _place_maps(train: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a small map of each city, at its own scale."""
    maps = []
    known = train.assign(city=city_of(train)).dropna(subset=["utm_east", "utm_north"])
    for name, images in known.groupby("city", sort=True):
        positions = Positions.of(images)
        at = pd.DataFrame(Plane([positions]).metres(positions))
        places = at.groupby(images["place_id"].to_numpy()).mean()
        title = f"{name or 'all places'}, {len(places):,} places"
        maps.append(_map({"found": places.to_numpy()}, title, SMALL_MAP_SIZE, ""))
    return maps


def _map(layers: dict[str, NDArray[np.float64]], title: str, size: tuple[float, float], zone: str) -> dict[str, Any]:
    """Return points as one path for each layer, with a scale.

    Args:
        layers: East and north in metres, ``(number, 2)``, by the CSS class of the points.
        title: Title of the map.
        size: Width and height of the drawing.
        zone: UTM zone; empty if there are several or none.
    """
    known = np.concatenate([xy[np.isfinite(xy).all(axis=1)] for xy in layers.values()])
    low, high = known.min(axis=0), known.max(axis=0)
    margin = 20.0
    unit = float(
        min((size[0] - 2 * margin) / max(1.0, high[0] - low[0]), (size[1] - 3 * margin) / max(1.0, high[1] - low[1]))
    )
    paths = {}
    for layer, xy in layers.items():
        some = _thinned(xy[np.isfinite(xy).all(axis=1)])
        x = margin + (some[:, 0] - low[0]) * unit
        y = margin + (high[1] - some[:, 1]) * unit
        paths[layer] = (len(xy), "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x, y, strict=True)))
    metres = max(m * 10**p for p in range(7) for m in (1, 2, 5) if m * 10**p * unit <= size[0] / 4 or (p, m) == (0, 1))
    scale = {"text": f"{metres / 1000:g} km" if metres >= 1000 else f"{metres} m", "length": round(metres * unit, 1)}
    corner = f"{low[0]:.0f} E {low[1]:.0f} N {zone}, lower left" if zone else ""
    return {"title": title, "width": size[0], "height": size[1], "paths": paths, "scale": scale, "corner": corner}


def _thinned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[:: -(-len(points) // MAX_POINTS)] if len(points) > MAX_POINTS else points


def _tiles(manifest: Manifest, rows: pd.DataFrame) -> list[dict[str, str]]:
    """Return thumbnails with captions."""
    columns = [column for column in condition_columns(manifest.rows) if column not in NOT_SEEN]
    tiles = []
    for _, row in rows.iterrows():
        image = open_image(manifest.folder / row["image"])
        image.thumbnail(TILE_PX)
        known = [month_in_words(str(row["timestamp"])), *(_in_words(column, str(row[column])) for column in columns)]
        caption = " · ".join(text for text in known if text)
        tiles.append({"data": jpeg_url(image), "caption": caption, "name": Path(row["image"]).name})
    return tiles


def _in_words(column: str, value: str) -> str:
    """Return ``snow`` for ``snow: yes``, nothing for ``snow: no``, and other values unchanged."""
    return {"yes": column, "no": "", "nan": ""}.get(value, value)


def _spread(items: Sequence[Any], num: int) -> list[Any]:
    if len(items) <= num:
        return list(items)
    return [items[int(k)] for k in np.linspace(0, len(items) - 1, num)]
