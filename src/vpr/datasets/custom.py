"""The user's own images: a table, or a folder in the standard VPR naming.

A table (CSV or Parquet) has the columns ``image, split, place_id`` and optionally ``utm_east,
utm_north, utm_zone`` or ``lat, lon``, ``heading`` and ``timestamp``; all others are kept. ``split`` is
``train``, ``<set>/database`` or ``<set>/queries``. A folder holds ``<set>/database``, ``<set>/queries``
and optionally ``train``; coordinates and places come from the file names where these are standard.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import utm

from vpr.datasets.manifest import DATABASE, QUERY, TRAIN, Manifest, make_manifest
from vpr.datasets.names import parse_name
from vpr.params import CustomParams
from vpr.project import main_root

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
_PARTS = {"database": DATABASE, "queries": QUERY}


def obtain(params: CustomParams) -> Manifest:
    """List the images of ``params.source``; nothing is copied.

    Raises:
        FileNotFoundError: if the table or folder is not there.
        ValueError: if a column is missing or a split is not understood.
    """
    source = (main_root() / params.source).resolve()
    if source.is_dir():
        rows = pd.DataFrame(_folder_rows(source))
        root = source if params.root is None else (main_root() / params.root).resolve()
        if root != source:
            raise ValueError("datasets.custom.root must be null when source is a folder; paths start there")
    elif source.is_file():
        rows = pd.DataFrame(_table_rows(_read_table(source), params, source))
        root = source.parent if params.root is None else (main_root() / params.root).resolve()
    else:
        raise FileNotFoundError(
            f"{source}: not found; set datasets.custom.source in params.yaml to your table or folder, "
            "see docs/own-data.md"
        )
    if rows.empty:
        raise ValueError(
            f"{source}: no images listed; expected rows, or <set>/database, <set>/queries or train folders"
        )
    return make_manifest("custom", _portable(root), rows)


def _portable(root: Path) -> str:
    """The root relative to the project where it lies under it, so that a manifest is the same elsewhere."""
    main = main_root()
    return f"project:{root.relative_to(main).as_posix()}" if root.is_relative_to(main) else root.as_posix()


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix.lower() in (".parquet", ".pq"):
        return pd.read_parquet(path)
    # Ids such as 0012 keep their zeros; numbers are made of the numeric columns below.
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _table_rows(table: pd.DataFrame, params: CustomParams, source: Path) -> list[dict[str, Any]]:
    missing = sorted(set(params.columns.values()) - set(table.columns))
    if missing:
        raise ValueError(f"datasets.custom.columns names {missing}, but {source} has {sorted(table.columns)}")
    for wanted, name in params.columns.items():
        table[wanted] = table[name]
    lacking = [c for c in ("image", "split") if c not in table]
    if lacking:
        raise ValueError(
            f"{source} has no column {lacking[0]!r}, only {sorted(table.columns)}; rename it or map it with "
            "datasets.custom.columns"
        )
    if "place_id" not in table:
        table["place_id"] = ""
    for column in ("utm_east", "utm_north", "lat", "lon", "heading"):
        if column in table:
            table[column] = pd.to_numeric(table[column], errors="coerce")
    for column in ("place_id", "train_place_id", "timestamp", "utm_zone"):
        if column in table:
            table[column] = table[column].fillna("").astype(str)
    if {"lat", "lon"} <= set(table.columns) and "utm_east" not in table:
        table["utm_east"], table["utm_north"], table["utm_zone"] = _to_utm(table["lat"], table["lon"])
    rows = []
    for record in table.to_dict("records"):
        record["image"] = str(record["image"]).replace("\\", "/")
        train_place = record.pop("train_place_id", None)
        for split in _as_list(params.splits.get(record["split"], record["split"])):
            role, set_name = _role_of(split, source)
            row = {k: v for k, v in record.items() if k != "split"} | {"role": role, "set": set_name}
            if role == TRAIN and train_place:
                row["place_id"] = train_place
            rows.append(row)
    return rows


def _as_list(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _role_of(split: str, source: Path) -> tuple[str, str]:
    if split == TRAIN:
        return TRAIN, ""
    set_name, _, part = split.rpartition("/")
    if part not in _PARTS or not set_name or not set_name.replace("-", "_").isidentifier():
        raise ValueError(
            f"{source}: split {split!r} is none of train, <set>/database, <set>/queries; map it with "
            "datasets.custom.splits"
        )
    return _PARTS[part], set_name


def _to_utm(lat: pd.Series, lon: pd.Series) -> tuple[list[float], list[float], list[str]]:
    """UTM of degrees; nothing where they are no position on earth, which verify reports."""
    east, north, zone = [], [], []
    for a, b in zip(lat, lon, strict=True):
        if np.isfinite(a) and np.isfinite(b) and -80 <= a <= 84 and -180 <= b < 180:
            e, n, number, band = utm.from_latlon(float(a), float(b))
            east.append(round(float(e), 2))
            north.append(round(float(n), 2))
            zone.append(f"{number}{band}")
        else:
            east.append(float("nan"))
            north.append(float("nan"))
            zone.append("")
    return east, north, zone


def _folder_rows(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            continue
        parts = path.relative_to(folder).parts
        if parts[0] == TRAIN:
            role, set_name = TRAIN, ""
        elif len(parts) >= 3 and parts[1] in _PARTS:
            role, set_name = _PARTS[parts[1]], parts[0]
        elif parts[0] in _PARTS:
            role, set_name = _PARTS[parts[0]], "test"
        else:
            continue
        row: dict[str, Any] = {"image": "/".join(parts), "role": role, "set": set_name}
        if role == TRAIN and len(parts) == 3:
            row["place_id"] = parts[1]
        try:
            name = parse_name(path.name)
        except ValueError:
            rows.append(row)
            continue
        if name.utm_east is not None and name.utm_north is not None:
            row |= {"utm_east": name.utm_east, "utm_north": name.utm_north, "utm_zone": name.utm_zone}
        row |= {"heading": name.heading, "timestamp": name.timestamp}
        if role == TRAIN and name.note:
            number, _, city = name.note.partition("_")
            row["place_id"] = f"{city or parts[1]}/{number}"
        rows.append(row)
    return rows
