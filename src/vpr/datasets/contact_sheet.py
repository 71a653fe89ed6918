"""A contact sheet: what came in, at a glance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from vpr.datasets.images import open_image
from vpr.datasets.manifest import DATABASE, QUERY, Manifest

COLUMNS, TILE_PX, LABEL_PX = 8, (128, 96), 16
NUM_PLACES = 4


def contact_sheet(manifest: Manifest) -> Image.Image:
    """Rows of images: some training places, then database and queries of each set, evenly picked."""
    rows: list[tuple[str, list[str]]] = []
    train = manifest.train()
    places = sorted(set(train["place_id"]))
    for place in _spread(places, NUM_PLACES):
        images = train.loc[train["place_id"] == place, "image"].tolist()
        rows.append((f"train, place {place}, {len(images)} images", images[:COLUMNS]))
    for name in manifest.set_names():
        for role in (DATABASE, QUERY):
            part: pd.DataFrame = manifest.part(name, role)
            rows.append((f"{name}, {role}, {len(part):,} images", _spread(part["image"].tolist(), COLUMNS)))
    width, height = TILE_PX
    sheet = Image.new("RGB", (COLUMNS * width, max(1, len(rows)) * (height + LABEL_PX)), "white")
    draw = ImageDraw.Draw(sheet)
    for r, (label, images) in enumerate(rows):
        top = r * (height + LABEL_PX)
        draw.text((4, top + 2), label, fill="black")
        for c, image in enumerate(images):
            tile = _thumbnail(manifest.folder / image)
            sheet.paste(tile, (c * width + (width - tile.width) // 2, top + LABEL_PX + (height - tile.height) // 2))
    return sheet


def _spread(items: list[str], num: int) -> list[str]:
    if len(items) <= num:
        return items
    return [items[int(k)] for k in np.linspace(0, len(items) - 1, num)]


def _thumbnail(path: Path) -> Image.Image:
    image = open_image(path)
    image.thumbnail(TILE_PX)
    return image
