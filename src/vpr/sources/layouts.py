"""Read the layouts of published sets. Each reader returns the set's folder in its source, and rows of a listing.

Paths are relative to the set's folder, so that they do not depend on how deep a mirror's archive nests it. The column
``problem`` of a row says what could not be read; the verify stage reports it.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from vpr.config.errors import UserError
from vpr.data.coordinates import on_earth, to_utm
from vpr.data.manifest import DATABASE, QUERY, TRAIN
from vpr.sources import ie_tower
from vpr.sources.catalogue import SourceParams
from vpr.sources.ground_truth import frame_columns, natural_order, read_ground_truth, read_indices, read_names
from vpr.sources.image_files import is_hidden, list_images
from vpr.sources.standard_naming import parse_name

DEPTH = 4  # deepest level at which a set's folder is looked for
_GSV_NAME = re.compile(
    r"(?P<code>[^_]+)_(?P<place>\d+)_(?P<year>\d{4})_(?P<month>\d{1,2})_(?P<heading>\d+)"
    r"_(?P<lat>-?[\d.]+(?:e-?\d+)?)_(?P<lon>-?[\d.]+(?:e-?\d+)?)_(?P<pano>.+)\.[^.]+$"
)
_GSV_KEY = ["code", "place", "year", "month", "heading", "pano"]


def find_folder(where: str, root: Path, wanted: str, holding: tuple[str, ...] = ()) -> Path:
    """Return the highest folder ``wanted`` below ``root`` that has all the folders ``holding``.

    Raises:
        UserError: if there is none, or several at the same depth; the message lists the folders.
    """
    level, seen = [root], []
    for _ in range(DEPTH):
        fitting = [
            folder / wanted for folder in level if all((folder / wanted / part).is_dir() for part in holding or (".",))
        ]
        if len(fitting) > 1:
            raise UserError(
                f"{where}.folder: {root} holds {', '.join(str(f.relative_to(root)) for f in fitting)}; name one of them"
            )
        if fitting:
            return fitting[0]
        level = [Path(entry.path) for folder in level for entry in sorted_folders(folder)]
        seen += level
    there = ", ".join(str(folder.relative_to(root)) for folder in seen[:30]) or "no folder"
    inside = f" with {' and '.join(holding)} in it" if holding else ""
    raise UserError(
        f"{where}.folder: {root} has no folder {wanted or '.'!r}{inside}; it has {there}; correct folder, database or "
        "queries"
    )


def sorted_folders(folder: Path) -> list[os.DirEntry[str]]:
    """List the folders of a folder."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if e.is_dir() and not is_hidden(e.name)), key=lambda e: e.name)


def read_gsv_xs(where: str, name: str, root: Path, source: SourceParams) -> tuple[Path, pd.DataFrame]:
    """Read GSV-Cities XS: ``<city>/<standard name>``, whose note is ``<place>_<City>``."""
    folder = find_folder(where, root, source.folder)
    rows = []
    for image in list_images(folder):
        path = PurePosixPath(image)
        row = _standard_fields(path.name)
        place = row.pop("note", "").partition("_")[0]
        city = path.parent.name.lower()
        if not row.get("problem") and not place:
            row["problem"] = "the name's note gives no place; expected <place>_<City>"
        rows.append(
            {"image": image, "city": city, "place_id": f"{name}/{city}/{place}" if place else "", "role": TRAIN} | row
        )
    return folder, pd.DataFrame(rows)


def read_gsv_cities(where: str, name: str, root: Path, source: SourceParams) -> tuple[Path, pd.DataFrame]:
    """Read GSV-Cities: ``Images/<city>/<name>``; ``Dataframes/<city>.csv`` takes precedence over file names."""
    folder = find_folder(where, root, source.folder, ("Images",))
    images = pd.DataFrame({"image": [f"Images/{image}" for image in list_images(folder / "Images")]}, dtype=object)
    names = images["image"].str.rpartition("/")[2].str.extract(_GSV_NAME)
    images = pd.concat([images, names], axis=1)
    images["city"] = images["image"].str.split("/").str[-2].str.lower()
    images["problem"] = np.where(
        images["code"].isna(), "the name is not city_place_year_month_bearing_lat_lon_panoid, as in GSV-Cities", ""
    )
    images = images.fillna("")
    for column in ("place", "year", "month", "heading"):
        images[column] = pd.to_numeric(images[column], errors="coerce").fillna(-1).astype(int)
    tables = sorted((folder / "Dataframes").glob("*.csv"))
    if tables:
        images = _as_tables_say(images, tables, folder)
    images["place_id"] = [
        f"{name}/{city}/{place}" if place >= 0 else ""
        for city, place in zip(images["city"], images["place"], strict=True)
    ]
    known = images["place"] >= 0
    images["timestamp"] = np.where(
        known, images["year"].astype(str).str.zfill(4) + images["month"].astype(str).str.zfill(2), ""
    )
    images["heading"] = np.where(known, images["heading"] % 360, np.nan)
    for column in ("lat", "lon"):
        images[column] = pd.to_numeric(images[column], errors="coerce")
    images["utm_east"], images["utm_north"], images["utm_zone"] = np.nan, np.nan, ""
    sound = on_earth(images["lat"].to_numpy(), images["lon"].to_numpy())
    images.loc[known & ~sound & (images["problem"] == ""), "problem"] = "lat and lon are not a position on earth"
    for _, rows in images[sound].groupby("city").groups.items():
        utm = to_utm(images.loc[rows, "lat"].to_numpy(), images.loc[rows, "lon"].to_numpy())
        for column, values in zip(("utm_east", "utm_north", "utm_zone"), utm, strict=True):
            images.loc[rows, column] = values
    images["role"] = TRAIN
    return folder, images.drop(columns=["code", "place", "year", "month", "pano"])


def _as_tables_say(images: pd.DataFrame, tables: list[Path], folder: Path) -> pd.DataFrame:
    """Return the images that the tables list, including missing files."""
    listed = []
    for path in tables:
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (ValueError, OSError) as error:  # pandas raises subclasses of these
            raise UserError(f"{path}: cannot be read as a table: {error}") from None
        lacking = sorted({"place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid"} - set(table))
        if lacking:
            raise UserError(f"{path}: no column {lacking[0]!r}; expected the tables that GSV-Cities is published with")
        for column in ("place_id", "year", "month", "northdeg"):
            numbers = pd.to_numeric(table[column], errors="coerce")
            table[column] = numbers.where(numbers.abs() < 2**53, -1).astype(int)
        listed.append(
            table.rename(columns={"place_id": "place", "northdeg": "heading", "city_id": "code", "panoid": "pano"})
        )
    table = pd.concat(listed, ignore_index=True)[[*_GSV_KEY, "lat", "lon"]]
    # Some tables add a multiple of 100,000 to make place numbers unique across cities; file names have the remainder.
    numberless = (table[["place", "year", "month", "heading"]] < 0).any(axis=1)
    table["place"] = (table["place"] % 100_000).where(~numberless, -1)
    tabled = images["code"].isin(set(table["code"]))
    files = images[tabled].drop(columns=["lat", "lon"]).drop_duplicates(_GSV_KEY)
    joined = table.merge(files, on=_GSV_KEY, how="left")
    city_of = files.drop_duplicates("code").set_index("code")["image"].str.rpartition("/")[0]
    gone = joined["image"].isna()
    made = [
        f"{city_of.get(row.code, f'Images/{row.code}')}/{row.code}_{row.place:07d}_{row.year:04d}_{row.month:02d}_"
        f"{row.heading:03d}_{row.lat}_{row.lon}_{row.pano}.jpg"
        for row in joined[gone].itertuples()
    ]
    joined.loc[gone, "image"] = made
    joined.loc[gone, "city"] = [PurePosixPath(image).parent.name.lower() for image in made]
    joined["problem"] = joined["problem"].fillna("")
    joined.loc[joined["place"] < 0, "problem"] = "its row in Dataframes lacks place, year, month or bearing"
    num_unlisted = int(tabled.sum()) - int((~gone).sum())
    if num_unlisted:
        print(f"{folder}: {num_unlisted} images are in no table of Dataframes and are not used")
    untabled = images[~tabled]
    return pd.concat([joined, untabled], ignore_index=True) if len(untabled) else joined


def read_standard(where: str, name: str, root: Path, source: SourceParams) -> tuple[Path, pd.DataFrame]:
    """Read an evaluation set: database and queries, in the standard naming or with a ground truth."""
    del name
    folder = find_folder(where, root, source.folder, (source.database, source.queries))
    parts = []
    for role, part in ((DATABASE, source.database), (QUERY, source.queries)):
        given = source.frame_window is not None or source.ground_truth is not None
        rows = []
        for image in list_images(folder / part):
            row = _standard_fields(PurePosixPath(image).name)
            if given and "utm_east" not in row:
                row = {}  # any name is valid
            rows.append({"image": f"{part}/{image}", "role": role} | row)
        if not rows:
            raise UserError(f"{where}: {folder / part} holds no images")
        parts.append(pd.DataFrame(rows))
    database, queries = parts
    if source.query_list is not None:
        queries = listed_queries(where, folder / source.query_list, queries)
    if source.frame_window is not None or source.ground_truth is not None:
        frame_columns(where, folder, source, database, queries)
    if source.query_step > 1:
        queries = queries.iloc[natural_order(queries["image"])[:: source.query_step]]
    return folder, pd.concat([database, queries], ignore_index=True)


def read_image_lists(where: str, name: str, root: Path, source: SourceParams) -> tuple[Path, pd.DataFrame]:
    """Read an evaluation set by lists of its images and positives, as gsv-cities has them.

    The lists are ``..._dbImages.npy`` and ``..._qImages.npy``, paths relative to the set's folder, and ``..._gt.npy``,
    the positives of each query. Those of MSLS are ``..._pIdx.npy``, for the queries that ``..._qIdx.npy`` chooses.
    """
    del name
    folder = find_folder(where, root, source.folder)
    stem = f"{folder / (source.lists or '')}_"
    parts = []
    for role, part in ((DATABASE, "dbImages"), (QUERY, "qImages")):
        names = read_names(where, Path(f"{stem}{part}.npy"))
        parts.append(pd.DataFrame({"image": [posixpath.normpath(name) for name in names], "role": role, "problem": ""}))
    database, queries = parts
    chosen, truth = Path(f"{stem}qIdx.npy"), Path(f"{stem}gt.npy")
    if chosen.is_file():
        queries = queries.iloc[read_indices(where, chosen, len(queries))].reset_index(drop=True)
        truth = Path(f"{stem}pIdx.npy")
    lists = read_ground_truth(where, truth, len(queries), len(database), source.allow_pickle)
    database["frame"], database["positive_frames"] = [str(k) for k in range(len(database))], ""
    queries["frame"], queries["positive_frames"] = "", [" ".join(map(str, frames)) for frames in lists]
    return folder, pd.concat([database, queries], ignore_index=True)


def listed_queries(where: str, path: Path, queries: pd.DataFrame) -> pd.DataFrame:
    """Return the queries whose key is in a file.

    Raises:
        UserError: if the file does not exist, or a key belongs to no query.
    """
    if not path.is_file():
        raise UserError(f"{where}.query_list: {path} does not exist")
    keys = set(path.read_text(encoding="utf-8").split())
    stems = queries["image"].map(lambda image: PurePosixPath(image).stem)
    panos = queries["image"].map(lambda image: _pano(PurePosixPath(image).name))
    missing = sorted(keys - set(stems) - set(panos))
    if missing:
        raise UserError(
            f"{where}.query_list: {len(missing)} of the {len(keys)} keys in {path} belong to no query, "
            f"the first of them {missing[0]!r}"
        )
    return queries[stems.isin(keys) | panos.isin(keys)].reset_index(drop=True)


def _pano(file_name: str) -> str:
    try:
        return parse_name(file_name).pano or ""
    except ValueError:
        return ""


def read_standard_train(where: str, name: str, root: Path, source: SourceParams) -> tuple[Path, pd.DataFrame]:
    """Read training images anywhere in a folder, in the standard naming; places are made from positions later."""
    folder = find_folder(where, root, source.folder)
    rows = []
    for image in list_images(folder):
        path = PurePosixPath(image)
        rows.append({"image": image, "city": name, "role": TRAIN, "problem": ""} | _standard_fields(path.name))
    return folder, pd.DataFrame(rows)


LAYOUTS = {
    "gsv_xs": read_gsv_xs,
    "gsv_cities": read_gsv_cities,
    "standard": read_standard,
    "image_lists": read_image_lists,
    "standard_train": read_standard_train,
    "ie_tower": ie_tower.read_evaluation,
    "ie_tower_train": ie_tower.read_training,
}


def _standard_fields(file_name: str) -> dict[str, Any]:
    """Return the fields of a name in the standard naming, or the problem with it."""
    try:
        name = parse_name(file_name)
    except ValueError as error:
        return {"problem": str(error).removeprefix(f"{file_name}: ")}
    if name.utm_east is None or name.utm_north is None:
        return {"problem": "the name gives no UTM coordinates"}
    return {
        "utm_east": name.utm_east,
        "utm_north": name.utm_north,
        "utm_zone": name.utm_zone,
        "lat": np.nan if name.lat is None else name.lat,
        "lon": np.nan if name.lon is None else name.lon,
        "heading": np.nan if name.heading is None else name.heading,
        "timestamp": name.timestamp,
        "note": name.note,
        "problem": "",
    }
