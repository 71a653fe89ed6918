"""List the user's own images: a table, or a folder in the standard VPR naming.

A table (CSV or Parquet) has the columns ``image, split, place_id`` and optionally ``utm_east, utm_north, utm_zone`` or
``lat, lon``, ``heading`` and ``timestamp``; other columns are kept. ``split`` is ``train``, ``<set>/database`` or
``<set>/queries``. A folder holds ``<set>/database``, ``<set>/queries`` and optionally ``train``; coordinates and places
are read from file names in the standard naming.
"""

from __future__ import annotations

import csv
import posixpath
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pyarrow import ArrowException
from pydantic import Field, field_validator

from vpr.config.did_you_mean import did_you_mean
from vpr.config.errors import UserError, counted, one_line
from vpr.config.params import Options
from vpr.config.project import main_root
from vpr.data.coordinates import is_zone, on_earth, to_utm
from vpr.data.manifest import DATABASE, QUERY, TRAIN, VERIFIED_COLUMNS, Manifest, make_manifest
from vpr.data.parquet_files import read_parquet
from vpr.data.timestamps import plain_timestamps
from vpr.sources.base import DATASETS, Context, DatasetAdapter
from vpr.sources.cells import CellParams, places_of_training
from vpr.sources.ground_truth import listed_positives
from vpr.sources.image_files import list_own_images
from vpr.sources.standard_naming import parse_name

MAX_COLUMNS = 1000
_TEXT_COLUMNS = (
    "place_id", "train_place_id", "timestamp", "utm_zone", "sequence", "city", "frame", "positive_frames",
)  # fmt: skip
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_PARTS = {"database": DATABASE, "queries": QUERY}


class CustomParams(Options):
    """Options of the user's own images."""

    source: str = Field(
        description="CSV or Parquet table, or a folder in the standard naming; a relative path starts at the "
        "project's root. If the file changes, DVC lists the dataset again"
    )
    root: str | None = Field(
        description="folder that the image paths of a table are relative to; `null` for the table's folder"
    )
    columns: dict[str, str] = Field(
        description="columns of the table by the name expected here, such as `{place_id: floor}`; `train_place_id` "
        "replaces `place_id` for training images"
    )
    splits: dict[str, str | list[str]] = Field(
        description="meaning of each value of `split`: `train`, `<set>/database` or `<set>/queries`, or a list if an "
        "image has several roles. These values themselves need no entry"
    )
    utm_zone: str | None = Field(
        description="UTM zone, such as `32T`, of coordinates that come without one; `null` for metres on a map"
    )
    ground_truth: dict[str, str] = Field(
        description="`.npy` files that list the positives of each query, by set: `{test: truth.npy}`, relative to the "
        "table's folder. After changing one, run `dvc repro --force --single-item download`"
    )
    allow_pickle: bool = Field(
        description="allow `ground_truth` files to hold Python objects; reading them may run code of their author"
    )
    places: CellParams | None = Field(
        description="how training places are made from positions; `null` to use `place_id`"
    )

    @field_validator("source", "root")
    @classmethod
    def _in_full(cls, path: str | None) -> str | None:
        if path is not None and path.startswith("~"):
            raise ValueError(f"{path!r}: DVC does not expand ~; write the path in full: {Path(path).expanduser()}")
        return path

    @field_validator("utm_zone")
    @classmethod
    def _is_zone(cls, zone: str | None) -> str | None:
        if zone is not None and not is_zone(zone):
            raise ValueError(f"{zone!r} is not a UTM zone; expected one such as 32T")
        return zone


@DATASETS.register("custom", "")
class Custom(DatasetAdapter):
    """The user's own images. They are not copied."""

    Params = CustomParams

    def prepare(self, params: CustomParams, context: Context) -> Manifest:
        """List the images of ``params.source``.

        Raises:
            UserError: if the table or folder does not exist, or a column or split is invalid.
        """
        # DVC hashes the table in the working directory, so read that one; images are in the main checkout.
        source = Path(params.source).resolve()
        if source.is_dir():
            rows = pd.DataFrame(_folder_rows(source))
            root = source if params.root is None else (main_root() / params.root).resolve()
            if root != source:
                raise UserError("datasets.custom.images.root must be null if source is a folder; paths start there")
        elif source.is_file():
            root = (main_root() / Path(params.root or Path(params.source).parent)).resolve()
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
        if params.utm_zone is not None and "utm_east" in rows:
            zones = rows["utm_zone"].fillna("") if "utm_zone" in rows else pd.Series("", index=rows.index)
            rows["utm_zone"] = zones.where((zones != "") | rows["utm_east"].isna(), params.utm_zone)
        if source.is_dir() and "utm_east" in rows:
            zoneless = rows.loc[rows["utm_east"].notna() & (rows["utm_zone"] == ""), "image"]
            if len(zoneless):
                print(
                    f"{source}: {counted(len(zoneless), 'file name')} without a UTM zone, {zoneless.iloc[0]} first; "
                    "their coordinates are taken as metres on a map. Set datasets.custom.images.utm_zone for UTM",
                    file=sys.stderr,
                )
        if params.places is not None:
            rows = places_of_training(rows, params.places, "params.yaml: datasets.custom.images.places")
        rows = _with_ground_truth(rows, params, source if source.is_dir() else source.parent)
        return make_manifest("custom", _portable(root), rows, {"options": params.model_dump()})


def _with_ground_truth(rows: pd.DataFrame, params: CustomParams, folder: Path) -> pd.DataFrame:
    """Return the rows with listed positives; frames are counted in natural order of the images' paths."""
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
    """Read a table of photos, which needs no column ``split``, for an index.

    Returns:
        Rows with ``image``, relative to the table's folder, ``utm_east, utm_north, utm_zone`` if they are known, and
        the other columns of the table.

    Raises:
        UserError: if a row or column is invalid.
    """
    table = _with_numbers(_read_table(path), path, needed=("image",), setting=None)
    wrong = table[table["problem"] != ""]
    if len(wrong):
        raise UserError(
            f"{path}: {len(wrong)} rows are invalid, {wrong['image'].iloc[0]} first: {wrong['problem'].iloc[0]}"
        )
    table["image"] = table["image"].map(lambda image: _image_path(image, path.parent.resolve()))
    return table.drop(columns="problem")


def _portable(root: Path) -> str:
    """Return the root relative to the project if it is inside it, so that manifests are the same on all machines."""
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
        reason = one_line(error)
        with path.open("rb") as file:
            if file.read(2) in _UTF_16:
                raise UserError(f"{path}: the file is in UTF-16; save it as CSV in UTF-8") from None
        raise UserError(f"{path}: cannot be read as a table: {reason}; expected CSV in UTF-8 or Parquet") from None
    table.columns = table.columns.map(lambda name: str(name).strip())
    for name, column in table.items():
        if not _is_simple(column):
            table[name] = column.map(_text)
    return table.reset_index(drop=True)


def _parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file; whole numbers stay whole even if their column has missing values."""
    return read_parquet(path).to_pandas(integer_object_nulls=True, ignore_metadata=True)


def _csv(path: Path) -> pd.DataFrame:
    """Read a CSV file as texts, so that ids such as 0012 keep their zeros; numeric columns are parsed later.

    Columns may be separated by commas, semicolons, tabs or bars. Between semicolons, a comma in a number is its decimal
    point, as spreadsheets write it in many countries.
    """
    skipped, separator = _form(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more fields than the header
        try:
            table = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                index_col=False,
                sep=separator,
                skiprows=skipped,
                skipinitialspace=True,
            )
        except (pd.errors.ParserWarning, pd.errors.ParserError):
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = [row for row in csv.reader(file, delimiter=separator, skipinitialspace=True) if row][skipped:]
            wrong = next((row for row in rows if len(row) > len(rows[0])), None)
            if wrong is None:
                raise
            raise ValueError(f"{len(rows[0])} columns, but a row has {len(wrong)} cells: {wrong[:4]}") from None
    table.attrs["decimal"] = "," if separator == ";" else "."
    return table


def _form(path: Path) -> tuple[int, str]:
    """Return the number of lines before the header of a CSV file, and the sign that separates its columns.

    Excel may write the sign into a first line ``sep=;``; otherwise it is the most frequent one of the header.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next((line for line in file if line.strip()), "")
    told = re.fullmatch(r"sep=([,;\t|])", header.strip("\r\n"))
    return (1, told[1]) if told else (0, max(",;\t|", key=header.count))


def _header(path: Path) -> list[str]:
    """Return the column names of a CSV file."""
    skipped, separator = _form(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=separator, skipinitialspace=True)
        header = next(islice((row for row in rows if row), skipped, None), [])
        return [name.strip() for name in header]


def _is_simple(column: pd.Series[Any]) -> bool:
    """Return true if all values of a column are numbers, times or texts."""
    types = pd.api.types
    if types.is_numeric_dtype(column) or types.is_datetime64_dtype(column):
        return not types.is_complex_dtype(column)
    return all(type(cell) is str for cell in column)


def _text(cell: Any) -> str:
    """Return a cell as text: lists as Python writes them, missing values as an empty text."""
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
    """Return an image's path relative to the dataset's folder; ``./a.jpg`` and an absolute path become ``a.jpg``."""
    path = posixpath.normpath(str(image).replace("\\", "/"))
    return (
        PurePosixPath(path).relative_to(root.as_posix()).as_posix() if path.startswith(f"{root.as_posix()}/") else path
    )


def _with_numbers(table: pd.DataFrame, source: Path, needed: Sequence[str], setting: str | None) -> pd.DataFrame:
    """Return the table with parsed numbers, UTM coordinates and a column ``problem``.

    Args:
        table: Table as texts.
        source: Path of the table, for messages.
        needed: Columns that the table must have.
        setting: Setting that maps column names, for messages; ``None`` if there is none.

    Raises:
        UserError: if a column is missing or has another name.
    """
    decimal_comma = table.attrs.get("decimal") == ","
    or_map_it = f", or map it with {setting}" if setting else ""
    lacking = [c for c in needed if c not in table]
    if lacking:
        raise UserError(
            f"{source} has no column {lacking[0]!r}, only {sorted(table.columns)}"
            f"{_did_you_mean(lacking[0], table.columns)}; rename it{or_map_it}"
        )
    if not len(table):
        raise UserError(f"{source}: the table has a header but no rows, so no images are listed")
    for pair in (("lat", "lon"), ("utm_east", "utm_north")):
        absent = [name for name in pair if name not in table]
        if len(absent) == 1:
            (present,) = set(pair) - set(absent)
            raise UserError(
                f"{source} has a column {present} but no column {absent[0]}"
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
    # Columns with the names of the pipeline's own columns are renamed.
    table = table.rename(columns={c: f"own_{c}" for c in ("role", "set", "problem", *VERIFIED_COLUMNS) if c in table})
    table["problem"] = ""
    for column in ("utm_east", "utm_north", "lat", "lon", "heading"):
        if column in table:
            cells = table[column]
            if decimal_comma:
                cells = cells.astype(str).str.strip().str.replace(",", ".", regex=False)
            numbers = pd.to_numeric(cells, errors="coerce")
            wrong = (numbers.isna() & table[column].notna() & ~table[column].map(_is_missing)).to_numpy()
            wrong = wrong | np.isinf(numbers.to_numpy(dtype=float))
            table.loc[wrong, "problem"] = f"{column} is not a number: " + table.loc[wrong, column].astype(str)
            table[column] = numbers
    for column in _TEXT_COLUMNS:
        if column in table:
            texts = _as_texts(table[column])
            table[column] = texts.mask(texts.map(_is_missing), "")
    if "timestamp" in table:
        try:
            times = table["timestamp"]
            if decimal_comma:
                times = times.str.replace(r"^([0-9]+),([0-9]+)$", r"\1.\2", regex=True)
            table["timestamp"] = plain_timestamps(times)
        except ValueError as error:
            raise UserError(f"{source}: column timestamp: {error}") from None
    if {"lat", "lon"} <= set(table.columns):
        _fill_utm(table)
    return table


_MISSING = {"", "na", "n/a", "#n/a", "nan", "nat", "null", "none", "<na>"}


def _as_texts(column: pd.Series[Any]) -> pd.Series[str]:
    """Return a column as texts; large numbers are written with all digits instead of an exponent."""
    if pd.api.types.is_float_dtype(column):
        column = column.map(lambda cell: np.format_float_positional(cell, trim="0"), na_action="ignore").astype(object)
    return column.fillna("").astype(str)


def _is_missing(cell: object) -> bool:
    """Return whether a cell says that its value is unknown, as spreadsheets and pandas write it."""
    return str(cell).strip().lower() in _MISSING


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
    """Return the column that has another usual name of the wanted one."""
    plain = {column.strip().lower().replace(" ", "_").replace("-", "_"): column for column in columns}
    return next((plain[name] for name in (wanted, *_ALIASES.get(wanted, ())) if name in plain), None)


def _did_you_mean(wanted: str, columns: Iterable[str]) -> str:
    alias = _alias_of(wanted, columns)
    return did_you_mean(wanted, columns) if alias is None else f" (did you mean {alias!r}?)"


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
    """Compute UTM coordinates from degrees for the rows without UTM coordinates."""
    for column, empty in (("utm_east", np.nan), ("utm_north", np.nan), ("utm_zone", "")):
        if column not in table:
            table[column] = empty
    lat, lon = table["lat"].to_numpy(dtype=float), table["lon"].to_numpy(dtype=float)
    to_do = table["utm_east"].isna().to_numpy() & table["utm_north"].isna().to_numpy()
    given = ~(np.isnan(lat) & np.isnan(lon))
    given &= ~((lat == 0) & (lon == 0))  # what cameras and tables write for an unknown position
    sound = on_earth(lat, lon) & given
    wrong = to_do & given & ~sound & (table["problem"] == "").to_numpy()
    table.loc[wrong, "problem"] = "lat and lon are not a position between 80 degrees south and 84 degrees north"
    table.loc[wrong & on_earth(lon, lat), "problem"] = "lat and lon are not a position on earth; are they swapped?"
    rows = np.flatnonzero(to_do & sound)
    for column, values in zip(("utm_east", "utm_north", "utm_zone"), to_utm(lat[rows], lon[rows]), strict=True):
        table.loc[table.index[rows], column] = values


def _folder_rows(folder: Path) -> list[dict[str, Any]]:
    rows, ignored = [], []
    for image in list_own_images(folder):
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
    """Read a file's name; outside the standard naming, a training image's folder is its place."""
    of_folder = {"place_id": parts[1]} if role == TRAIN and len(parts) == 3 else {}
    try:
        name = parse_name(file_name)
    except ValueError as error:
        return of_folder | ({"problem": str(error)} if file_name.startswith("@") else {})
    known: dict[str, Any] = {"heading": name.heading, "timestamp": name.timestamp, **of_folder}
    if name.utm_east is not None and name.utm_north is not None:
        known |= {"utm_east": name.utm_east, "utm_north": name.utm_north, "utm_zone": name.utm_zone}
    if role == TRAIN and name.note:
        number, _, city = name.note.partition("_")
        known["place_id"] = f"{city or parts[1]}/{number}"
    return known
