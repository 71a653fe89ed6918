"""The user's own images: a table, or a folder in the standard VPR naming.

A table (CSV or Parquet) has the columns ``image, split, place_id`` and optionally ``utm_east,
utm_north, utm_zone`` or ``lat, lon``, ``heading`` and ``timestamp``; all others are kept. ``split`` is
``train``, ``<set>/database`` or ``<set>/queries``. A folder holds ``<set>/database``, ``<set>/queries``
and optionally ``train``; coordinates and places come from the file names where these are standard.
"""

from __future__ import annotations

import csv
import difflib
import posixpath
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pyarrow import ArrowException
from pydantic import Field

from vpr.config.errors import UserError
from vpr.config.params import Options
from vpr.config.project import main_root
from vpr.data.coordinates import on_earth, to_utm
from vpr.data.files import list_images
from vpr.data.manifest import DATABASE, QUERY, TRAIN, VERIFIED_COLUMNS, Manifest, make_manifest
from vpr.data.names import parse_name
from vpr.sources.base import DATASETS, Context, DatasetAdapter
from vpr.sources.cells import CellParams, places_of_training
from vpr.sources.ground_truth import listed_positives

MAX_COLUMNS = 1000
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_PARTS = {"database": DATABASE, "queries": QUERY}


class CustomParams(Options):
    """The user's own images."""

    source: str = Field(
        description="CSV or Parquet table, or a folder in the standard naming; a relative path starts at the "
        "project's root. DVC watches it: when it changes, the dataset is listed again"
    )
    root: str | None = Field(description="folder that image paths of a table start from; `null` for the table's own")
    columns: dict[str, str] = Field(
        description="names in the table for the names expected here, such as `{place_id: floor}`; with "
        "`train_place_id` training images get places of their own"
    )
    splits: dict[str, str | list[str]] = Field(
        description="what a value of `split` means: `train`, `<set>/database` or `<set>/queries`; a list where an "
        "image plays several roles. Values spelt like that need no entry"
    )
    ground_truth: dict[str, str] = Field(
        description="`.npy` files that list the positives of each query, by set: `{test: truth.npy}`, relative to the "
        "table's folder. DVC does not watch them: after a change, run `dvc repro --force --single-item download`"
    )
    allow_pickle: bool = Field(description="unpickle any object that such a file holds; it may run code")
    places: CellParams | None = Field(
        description="`null`, or how training places are made from positions, in place of `place_id`"
    )


@DATASETS.register("custom", "")
class Custom(DatasetAdapter):
    """The user's own images; nothing is copied."""

    Params = CustomParams

    def prepare(self, params: CustomParams, context: Context) -> Manifest:
        """List the images of ``params.source``.

        Raises:
            UserError: if the table or folder is not there, a column is missing or a split is not understood.
        """
        # DVC hashes the table in the working directory, so that is the one to read; images lie in the main checkout.
        source = Path(params.source).expanduser().resolve()
        if source.is_dir():
            rows = pd.DataFrame(_folder_rows(source))
            root = source if params.root is None else (main_root() / params.root).resolve()
            if root != source:
                raise UserError("datasets.custom.images.root must be null when source is a folder; paths start there")
        elif source.is_file():
            root = (main_root() / Path(params.root or Path(params.source).parent).expanduser()).resolve()
            rows = pd.DataFrame(_table_rows(_read_table(source), params, source, root))
        else:
            raise UserError(
                f"{source}: not found; set datasets.custom.images.source in params.yaml to your table or folder, "
                "see docs/own-data.md"
            )
        if rows.empty:
            raise UserError(
                f"{source}: no images listed; expected rows, or <set>/database, <set>/queries or train folders"
            )
        if params.places is not None:
            rows = places_of_training(rows, params.places, "params.yaml: datasets.custom.images.places")
        rows = _with_ground_truth(rows, params, source if source.is_dir() else source.parent)
        return make_manifest("custom", _portable(root), rows, {"options": params.model_dump()})


def _with_ground_truth(rows: pd.DataFrame, params: CustomParams, folder: Path) -> pd.DataFrame:
    """The rows with the positives that files list, frames counted in natural order of the images' paths."""
    where = "params.yaml: datasets.custom.images"
    for set_name, file in params.ground_truth.items():
        of_set = rows[rows["set"] == set_name]
        if of_set.empty:
            raise UserError(
                f"{where}.ground_truth names the set {set_name!r}; choose from {sorted(set(rows['set']) - {''})}"
            )
        database, queries = (of_set[of_set["role"] == role].copy() for role in (DATABASE, QUERY))
        listed_positives(where, folder / file, database, queries, params.allow_pickle)
        rows = pd.concat([rows[rows["set"] != set_name], database, queries], ignore_index=True)
    for column in {"frame", "positive_frames"} & set(rows):
        rows[column] = rows[column].fillna("")
    return rows


def photos_with_positions(path: Path) -> pd.DataFrame:
    """The rows of a table of photos, which needs no ``split``: for an index.

    Returns:
        ``image``, relative to the table's folder, ``utm_east, utm_north, utm_zone`` where they are known, and what else
        the table has.

    Raises:
        UserError: as a dataset's table.
    """
    table = _with_numbers(_read_table(path), path, needed=("image",), setting=None)
    wrong = table[table["problem"] != ""]
    if len(wrong):
        raise UserError(
            f"{path}: {len(wrong)} rows are wrong, {wrong['image'].iloc[0]} first: {wrong['problem'].iloc[0]}"
        )
    table["image"] = table["image"].map(lambda image: _image_path(image, path.parent.resolve()))
    return table.drop(columns="problem")


def _portable(root: Path) -> str:
    """The root relative to the project where it lies under it, so that a manifest is the same elsewhere."""
    main = main_root()
    return f"project:{root.relative_to(main).as_posix()}" if root.is_relative_to(main) else root.as_posix()


def _read_table(path: Path) -> pd.DataFrame:
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    try:
        columns = pq.read_schema(path).names if is_parquet else _header(path)
        if len(columns) > MAX_COLUMNS or len(set(columns)) < len(columns):
            raise ValueError(f"{len(columns):,} columns; expected at most {MAX_COLUMNS:,}, each with its own name")
        table = _parquet(path) if is_parquet else _csv(path)
    except (ValueError, OSError, ArrowException, csv.Error, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        with path.open("rb") as file:
            if file.read(2) in _UTF_16:
                raise UserError(f"{path}: in UTF-16; save it as CSV in UTF-8") from None
        raise UserError(f"{path}: can't be read as a table: {reason}; expected CSV in UTF-8 or Parquet") from None
    table.columns = table.columns.map(str)
    separators = [sign for sign in (";", "\t", "|") if len(columns) == 1 and sign in columns[0]]
    if separators:
        raise UserError(f"{path}: its columns are separated by {separators[0]!r}; separate them by commas")
    for name, column in table.items():
        if not _is_simple(column):
            table[name] = column.map(_text)
    return table.reset_index(drop=True)


def _parquet(path: Path) -> pd.DataFrame:
    """A Parquet file; whole numbers stay whole where others of their column are missing."""
    return pq.read_table(path).to_pandas(integer_object_nulls=True, ignore_metadata=True)


def _csv(path: Path) -> pd.DataFrame:
    """A CSV file as texts: ids such as 0012 keep their zeros, and numbers are made of the numeric columns later."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more fields than the header
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)


def _header(path: Path) -> list[str]:
    """The column names of a CSV file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next((row for row in csv.reader(file) if row), [])


def _is_simple(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers or times, or texts alone."""
    types = pd.api.types
    if types.is_numeric_dtype(column) or types.is_datetime64_dtype(column):
        return not types.is_complex_dtype(column)
    return all(type(cell) is str for cell in column)


def _text(cell: Any) -> str:
    """A cell as text: lists and the like as Python writes them, nothing as an empty text."""
    cell = cell.tolist() if isinstance(cell, np.ndarray) else cell
    return "" if cell is None or cell is pd.NA or cell is pd.NaT or cell != cell else str(cell)


def _table_rows(table: pd.DataFrame, params: CustomParams, source: Path, root: Path) -> list[dict[str, Any]]:
    missing = sorted(set(params.columns.values()) - set(table.columns))
    if missing:
        raise UserError(
            f"datasets.custom.images.columns names {missing}, but {source} has {sorted(table.columns)}"
            + "".join(_did_you_mean(name, table.columns) for name in missing)
        )
    for wanted, name in params.columns.items():
        table[wanted] = table[name]
    table = _with_numbers(table, source, needed=("image", "split"), setting="datasets.custom.images.columns")
    rows = []
    for record in table.to_dict("records"):
        record["image"] = _image_path(record["image"], root)
        train_place = record.pop("train_place_id", None)
        for split in _as_list(params.splits.get(record["split"], record["split"])):
            role, set_name = _role_of(split, source)
            row = {k: v for k, v in record.items() if k != "split"} | {"role": role, "set": set_name}
            if role == TRAIN and train_place:
                row["place_id"] = train_place
            rows.append(row)
    return rows


def _image_path(image: object, root: Path) -> str:
    """An image's path in the dataset's folder: ``./a.jpg`` is ``a.jpg``, and so is an absolute path of it."""
    path = posixpath.normpath(str(image).replace("\\", "/"))
    return (
        PurePosixPath(path).relative_to(root.as_posix()).as_posix() if path.startswith(f"{root.as_posix()}/") else path
    )


def _with_numbers(table: pd.DataFrame, source: Path, needed: Sequence[str], setting: str | None) -> pd.DataFrame:
    """The table with numbers where they belong, UTM coordinates, and a column ``problem``.

    Args:
        source: of the table, for messages.
        needed: columns that it must have.
        setting: what names columns of other names, for messages; ``None`` where nothing does.

    Raises:
        UserError: if a column is missing, or its name is another one.
    """
    or_map_it = f", or map it with {setting}" if setting else ""
    lacking = [c for c in needed if c not in table]
    if lacking:
        raise UserError(
            f"{source} has no column {lacking[0]!r}, only {sorted(table.columns)}"
            f"{_did_you_mean(lacking[0], table.columns)}; rename it{or_map_it}"
        )
    if not len(table):
        raise UserError(f"{source}: it has a header and no rows, so no images are listed")
    for pair in (("lat", "lon"), ("utm_east", "utm_north")):
        absent = [name for name in pair if name not in table]
        if len(absent) == 1:
            (present,) = set(pair) - set(absent)
            raise UserError(
                f"{source} has a column {present} and none named {absent[0]}"
                f"{_did_you_mean(absent[0], table.columns)}; add it{or_map_it}"
            )
    if not {"lat", "utm_east"} & set(table.columns):
        meant = {name: _alias_of(name, table.columns) for pair in _ALIASES_OF_PAIRS for name in pair}
        found = {name: alias for name, alias in meant.items() if alias is not None}
        if found:
            mapping = ", ".join(f"{wanted}: {name}" for wanted, name in found.items())
            or_map_them = f", or set {setting} to {{{mapping}}}" if setting else ""
            raise UserError(
                f"{source} has the columns {', '.join(found.values())}: did you mean {', '.join(found)}? Rename them"
                f"{or_map_them}"
            )
    if "place_id" not in table:
        table["place_id"] = ""
    # The pipeline's own columns keep their names; yours are kept under another.
    table = table.rename(columns={c: f"own_{c}" for c in ("role", "set", "problem", *VERIFIED_COLUMNS) if c in table})
    table["problem"] = ""
    for column in ("utm_east", "utm_north", "lat", "lon", "heading"):
        if column in table:
            numbers = pd.to_numeric(table[column], errors="coerce")
            wrong = (numbers.isna() & table[column].notna() & (table[column].astype(str).str.strip() != "")).to_numpy()
            wrong = wrong | np.isinf(numbers.to_numpy(dtype=float))
            table.loc[wrong, "problem"] = f"{column} is not a number: " + table.loc[wrong, column].astype(str)
            table[column] = numbers
    for column in ("place_id", "train_place_id", "timestamp", "utm_zone", "frame", "positive_frames"):
        if column in table:
            table[column] = table[column].fillna("").astype(str)
    if {"lat", "lon"} <= set(table.columns):
        _fill_utm(table)
    return table


_ALIASES = {
    "lat": ("latitude", "gps_lat", "gps_latitude"),
    "lon": ("longitude", "lng", "long", "gps_lon", "gps_longitude"),
    "utm_east": ("easting", "east", "utm_x", "utm_easting"),
    "utm_north": ("northing", "north", "utm_y", "utm_northing"),
    "image": ("path", "file", "filename", "file_name", "image_path", "img", "photo", "name"),
    "split": ("set", "role", "subset", "part"),
}
_ALIASES_OF_PAIRS = (("lat", "lon"), ("utm_east", "utm_north"))


def _alias_of(wanted: str, columns: Iterable[str]) -> str | None:
    """The column that is the wanted one under another usual name."""
    plain = {column.strip().lower().replace(" ", "_").replace("-", "_"): column for column in columns}
    return next((plain[name] for name in (wanted, *_ALIASES.get(wanted, ())) if name in plain), None)


def _did_you_mean(wanted: str, columns: Iterable[str]) -> str:
    meant = _alias_of(wanted, columns) or next(iter(difflib.get_close_matches(wanted, columns, n=1)), None)
    return f"; did you mean {meant!r}?" if meant is not None else ""


def _as_list(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _role_of(split: str, source: Path) -> tuple[str, str]:
    if split == TRAIN:
        return TRAIN, ""
    set_name, _, part = str(split).rpartition("/")
    if part not in _PARTS or set_name == TRAIN or not set_name.replace("-", "_").isidentifier():
        raise UserError(
            f"{source}: split {split!r} is not valid; expected train, <set>/database or <set>/queries, where <set> has "
            "letters, digits, - and _ and begins with a letter; map it with datasets.custom.images.splits"
        )
    return _PARTS[part], set_name


def _fill_utm(table: pd.DataFrame) -> None:
    """UTM coordinates from degrees, where a row has no UTM of its own."""
    for column, empty in (("utm_east", np.nan), ("utm_north", np.nan), ("utm_zone", "")):
        if column not in table:
            table[column] = empty
    lat, lon = table["lat"].to_numpy(dtype=float), table["lon"].to_numpy(dtype=float)
    to_do = table["utm_east"].isna().to_numpy() & table["utm_north"].isna().to_numpy()
    given = ~(np.isnan(lat) & np.isnan(lon))
    sound = on_earth(lat, lon)
    wrong = to_do & given & ~sound & (table["problem"] == "").to_numpy()
    table.loc[wrong, "problem"] = "lat and lon are not a position on earth"
    table.loc[wrong & on_earth(lon, lat), "problem"] = "lat and lon are not a position on earth; are they swapped?"
    rows = np.flatnonzero(to_do & sound)
    for column, values in zip(("utm_east", "utm_north", "utm_zone"), to_utm(lat[rows], lon[rows]), strict=True):
        table.loc[table.index[rows], column] = values


def _folder_rows(folder: Path) -> list[dict[str, Any]]:
    rows, ignored = [], []
    for image in list_images(folder):
        parts = PurePosixPath(image).parts
        if parts[0] == TRAIN and len(parts) > 1:
            split = TRAIN
        elif len(parts) >= 3 and parts[1] in _PARTS:
            split = f"{parts[0]}/{parts[1]}"
        elif parts[0] in _PARTS and len(parts) > 1:
            split = f"test/{parts[0]}"
        else:
            ignored.append(image)
            continue
        role, set_name = _role_of(split, folder)
        row: dict[str, Any] = {"image": image, "role": role, "set": set_name}
        rows.append(row | _from_name(parts[-1], role, parts))
    if ignored:
        print(
            f"{folder}: {len(ignored)} images outside train, <set>/database and <set>/queries are not used, "
            f"starting with {ignored[0]}",
            file=sys.stderr,
        )
    return rows


def _from_name(file_name: str, role: str, parts: tuple[str, ...]) -> dict[str, Any]:
    """What the file's name says; outside the standard naming a training image's folder is its place."""
    try:
        name = parse_name(file_name)
    except ValueError:
        return {"place_id": parts[1]} if role == TRAIN and len(parts) == 3 else {}
    known: dict[str, Any] = {"heading": name.heading, "timestamp": name.timestamp}
    if name.utm_east is not None and name.utm_north is not None:
        known |= {"utm_east": name.utm_east, "utm_north": name.utm_north, "utm_zone": name.utm_zone}
    if role == TRAIN and name.note:
        number, _, city = name.note.partition("_")
        known["place_id"] = f"{city or parts[1]}/{number}"
    return known
