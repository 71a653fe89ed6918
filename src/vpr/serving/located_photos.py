"""Photos with their positions, from a table, from file names in the standard VPR naming, or from EXIF GPS tags."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vpr.config.errors import UserError, counted
from vpr.config.progress import progress
from vpr.data.coordinates import is_zone, on_earth, plain_zones, plausible, to_utm
from vpr.data.timestamps import plain_timestamp
from vpr.serving.photos import from_file, read_photo
from vpr.sources.custom import photos_with_positions
from vpr.sources.exif import exif_position, exif_time
from vpr.sources.image_files import list_own_images
from vpr.sources.standard_naming import parse_name


def located_photos(photos: Path) -> tuple[Path, pd.DataFrame]:
    """Find the photos of a folder or table whose position is known, and print how many are left out.

    Args:
        photos: A folder, whose subfolders are searched too, or a table as ``datasets.custom`` takes it.

    Returns:
        The folder that the names start from, and a row for each photo.

    Raises:
        UserError: if ``photos`` does not exist, or no photo has a position.
    """
    if not photos.exists():
        raise UserError(f"{photos}: no such folder or table")
    if photos.is_dir():
        return photos, _located(photos, None)
    return photos.parent, _located(photos.parent, photos_with_positions(photos))


def _located(folder: Path, listed: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rows of photos with a position.

    Args:
        folder: Folder that the names start from.
        listed: Table with ``image`` and further columns; ``None`` for all images below the folder.
    """
    rows, broken = [], []
    known = {} if listed is None else {row["image"]: row for row in listed.to_dict("records")}
    if listed is not None and len(known) < len(listed):
        twice = listed.loc[listed["image"].duplicated(), "image"].iloc[0]
        raise UserError(f"the table lists {twice} twice; keep one of its rows")
    names = list_own_images(folder) if listed is None else list(known)
    for name in _with_progress(names):
        try:
            content = from_file(folder / name)
            read_photo(content, name)
        except UserError:
            broken.append(name)
            continue
        listed_row = known.get(name, {})
        rows.append({**listed_row, "image": name, **_position(name, content, listed_row)})
    if broken:
        print(
            f"left out: {counted(len(broken), 'file')} that cannot be read, starting with {broken[0]}",
            file=sys.stderr,
        )
    if not rows:
        raise UserError(f"{folder}: no readable images in it")
    table = pd.DataFrame(rows)
    lat, lon = (table[key].to_numpy(dtype=float) for key in ("lat", "lon"))
    to_do = np.flatnonzero((table["utm_zone"] == "").to_numpy() & on_earth(lat, lon))
    for column, values in zip(("utm_east", "utm_north", "utm_zone"), to_utm(lat[to_do], lon[to_do]), strict=True):
        table.loc[table.index[to_do], column] = values
    east, north = (table[key].to_numpy(dtype=float) for key in ("utm_east", "utm_north"))
    table["utm_zone"] = plain_zones(table["utm_zone"].to_list(), north, lat)
    wrong = table[np.isfinite(east) & ~plausible(east, north, table["utm_zone"].to_list())]
    if len(wrong):
        first = wrong.iloc[0]
        print(
            f"left out: {counted(len(wrong), 'photo')} whose coordinates are not UTM, starting with {first['image']}: "
            f"{first['utm_east']:g} E {first['utm_north']:g} N in zone {first['utm_zone']!r}",
            file=sys.stderr,
        )
    table.loc[~np.isfinite(east), "utm_zone"] = ""
    table.loc[wrong.index, ["utm_east", "utm_zone"]] = np.nan, ""
    unknown = table.loc[table["utm_zone"] == "", "image"].to_list()
    if len(unknown) == len(table):
        raise UserError(
            f"{folder}: none of {len(table)} images has a position, {unknown[0]} for example; give a table with lat "
            "and lon or with utm_east, utm_north and utm_zone, name the images in the standard VPR naming with "
            "their UTM zone, or keep their EXIF GPS tags"
        )
    if unknown:
        print(
            f"left out: {counted(len(unknown), 'photo')} without a clear position, starting with {unknown[0]}",
            file=sys.stderr,
        )
    return table[table["utm_zone"] != ""].reset_index(drop=True)


def _with_progress(names: list[str]) -> Iterator[str]:
    with progress(len(names), "reading", "photos") as bar:
        for name in names:
            yield name
            bar.update()


def _position(image: str, content: bytes, listed: dict[str, Any]) -> dict[str, Any]:
    """Return a photo's position from the table, or else from its name, or else from its EXIF tags.

    Heading and time come from the first of them that has one.
    """
    row: dict[str, Any] = {"utm_east": np.nan, "utm_north": np.nan, "utm_zone": "", "lat": np.nan, "lon": np.nan}
    row |= {"place_id": "", "heading": np.nan, "timestamp": ""}
    row |= {column: listed[column] for column in row if column in listed}
    placed = np.isfinite(row["utm_east"]) or np.isfinite(row["lat"])
    with suppress(ValueError):  # another name
        name = parse_name(image)
        row |= {"heading": name.heading} if not np.isfinite(row["heading"]) and name.heading is not None else {}
        row |= {"timestamp": plain_timestamp(name.timestamp)} if not row["timestamp"] else {}
        if not placed and name.utm_east is not None and name.utm_north is not None and is_zone(name.utm_zone):
            row |= {"utm_east": name.utm_east, "utm_north": name.utm_north, "utm_zone": name.utm_zone}
            placed = True
        elif not placed and name.lat is not None and name.lon is not None:
            row |= {"lat": name.lat, "lon": name.lon, "utm_zone": ""}
            placed = True
    row |= {"timestamp": exif_time(content)} if not row["timestamp"] else {}
    position = None if placed else exif_position(content)
    return row if position is None else row | {"lat": position[0], "lon": position[1], "utm_zone": ""}
