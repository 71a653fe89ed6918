"""The manifest: a table with a row for each image in each role and set, and the same columns for every dataset.

A dataset adapter returns a *listing*, which contains the images that should exist. The verify stage reads the files and
writes the *manifest*, which contains the images that do exist. Training and evaluation images are in separate files, so
that adding an evaluation set does not affect training. A manifest has the columns of the listing, and the sizes and
hashes that the verify stage adds.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vpr.config.errors import UserError
from vpr.config.project import resolve_root
from vpr.data.coordinates import plain_zones
from vpr.data.timestamps import plain_timestamp, plain_timestamps

TRAIN, DATABASE, QUERY = "train", "database", "query"
ROLES = (TRAIN, DATABASE, QUERY)
KEY = ["role", "set", "image"]

# Columns of every manifest. Unknown strings are "" and unknown numbers are NaN.
COLUMNS: dict[str, str] = {
    "image": "str",  # path relative to the root, with forward slashes
    "role": "str",  # train, database or query
    "set": "str",  # evaluation set; "" for training images
    "place_id": "str",  # identifies a place within its role and set
    "utm_east": "float64",  # metres
    "utm_north": "float64",
    "utm_zone": "str",  # number and band, such as 32T
    "heading": "float64",  # degrees clockwise from north
    "timestamp": "str",  # see vpr.data.timestamps
}
VERIFIED_COLUMNS: dict[str, str] = {"num_bytes": "int64", "sha256": "str", "width": "int64", "height": "int64"}


@dataclass(frozen=True)
class Manifest:
    """A dataset's table.

    Attributes:
        name: Name of the dataset.
        root: Folder that image paths start from, see ``vpr.config.project.resolve_root``.
        rows: The table.
        metadata: The ``options`` that determine the training images, and the ``sources`` they come from.
    """

    name: str
    root: str
    rows: pd.DataFrame
    metadata: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def folder(self) -> Path:
        """Folder of the images."""
        return resolve_root(self.root)

    def train(self) -> pd.DataFrame:
        """Return the rows of the training images."""
        return self._part(TRAIN, "")

    def part(self, set_name: str, role: str) -> pd.DataFrame:
        """Return the rows of the database or the queries of an evaluation set.

        Raises:
            UserError: if the dataset has no such set.
        """
        names = self.set_names()
        if set_name not in names:
            raise UserError(f"dataset {self.name} has no evaluation set {set_name!r}; it has: {', '.join(names)}")
        return self._part(role, set_name)

    def set_names(self) -> list[str]:
        """Return the names of the evaluation sets."""
        return sorted(set(self.rows.loc[self.rows["role"] != TRAIN, "set"]))

    def _part(self, role: str, set_name: str) -> pd.DataFrame:
        chosen = (self.rows["role"] == role) & (self.rows["set"] == set_name)
        return self.rows[chosen].reset_index(drop=True)


def make_manifest(name: str, root: str, rows: pd.DataFrame, metadata: dict[str, Any] | None = None) -> Manifest:
    """Return a manifest of an adapter's rows, with the common columns first and in a fixed order.

    Raises:
        UserError: for an unknown role, or a database image or query without an evaluation set.
    """
    table = rows.copy()
    for column, dtype in COLUMNS.items():
        if column not in table:
            table[column] = "" if dtype == "str" else float("nan")
        elif dtype == "str":
            table[column] = table[column].fillna("")
        table[column] = table[column].astype(dtype)
    lat = pd.to_numeric(table["lat"], errors="coerce").to_numpy(dtype=float) if "lat" in table else None
    table["utm_zone"] = plain_zones(table["utm_zone"].to_list(), table["utm_north"].to_numpy(), lat)
    for set_name, times in table.groupby("set", dropna=False)["timestamp"]:
        try:
            table.loc[times.index, "timestamp"] = plain_timestamps(times)
        except ValueError:  # such as file names in which the field means something else
            read = times.map(plain_timestamp)
            table.loc[times.index, "timestamp"] = read
            unread = int(((times != "") & (read == "")).sum())
            print(f"dataset {name}, set {set_name or 'train'}: {unread} texts are not timestamps", file=sys.stderr)
    unknown = sorted(set(table["role"]) - set(ROLES))
    if unknown:
        raise UserError(f"dataset {name}: unknown roles {unknown}; choose from {list(ROLES)}")
    nameless = table.loc[(table["role"] != TRAIN) & (table["set"] == ""), "image"]
    if len(nameless):
        raise UserError(
            f"dataset {name}: {len(nameless)} database and query rows have no evaluation set in the column 'set', "
            f"starting with {nameless.iloc[0]}"
        )
    extra = [c for c in table.columns if c not in COLUMNS]
    for column in extra:
        known = table[column].dropna()
        if len(known) and known.map(type).eq(str).all():
            table[column] = table[column].fillna("")
    table = table[[*COLUMNS, *extra]].sort_values(KEY, kind="stable").reset_index(drop=True)
    return Manifest(name, root, table, metadata or {})


def city_of(rows: pd.DataFrame) -> pd.Series[str]:
    """Return the city of each image: its ``city`` if there is such a column, otherwise its place id up to a slash."""
    return rows["city"] if "city" in rows else rows["place_id"].str.rpartition("/")[0]


def write_parts(manifest: Manifest, folder: Path, validation_set: str | None) -> None:
    """Write ``train.parquet``, ``evaluation.parquet`` (all sets) and ``validation.parquet`` (one set).

    The training and validation files leave out additional columns that are empty in all of their rows.

    Args:
        manifest: The whole dataset.
        folder: Folder to write into.
        validation_set: Set to validate on during training; with ``None``, that file has no rows.
    """
    options = {"options": manifest.metadata.get("options", {})}
    train = Manifest(manifest.name, manifest.root, _own_columns(manifest.train()), options)
    write_manifest(train, folder / "train.parquet")
    others = manifest.rows[manifest.rows["role"] != TRAIN].reset_index(drop=True)
    evaluation = Manifest(manifest.name, manifest.root, others)
    write_manifest(evaluation, folder / "evaluation.parquet")
    if validation_set is None:
        validation = Manifest(manifest.name, manifest.root, manifest.rows.iloc[:0])
    else:
        validation = set_manifest(evaluation, validation_set)
    write_manifest(validation, folder / "validation.parquet")


def set_manifest(manifest: Manifest, name: str) -> Manifest:
    """Return the manifest of one evaluation set, with only the columns that concern it.

    Raises:
        UserError: if the dataset has no such set.
    """
    known = manifest.set_names()
    if name not in known:
        raise UserError(f"dataset {manifest.name} has no evaluation set {name!r}; it has: {', '.join(known)}")
    rows = manifest.rows[manifest.rows["set"] == name].reset_index(drop=True)
    return Manifest(manifest.name, manifest.root, _own_columns(rows))


def _own_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """Drop additional columns that are empty in all of these rows."""
    empty = [c for c in rows if c not in COLUMNS and bool((rows[c].isna() | (rows[c].astype(object) == "")).all())]
    return rows.drop(columns=empty) if len(rows) else rows


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest as Parquet, with its name and root in the file's metadata."""
    table = pa.Table.from_pandas(manifest.rows, preserve_index=False)
    header = json.dumps({"name": manifest.name, "root": manifest.root, "metadata": manifest.metadata})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), b"vpr": header.encode()}), path)


def read_manifest(path: Path) -> Manifest:
    """Read what ``write_manifest`` wrote.

    Raises:
        UserError: if the file is missing, or is a Parquet file that ``write_manifest`` did not write.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; run `dvc repro verify` first")
    table = pq.read_table(path)
    header = (table.schema.metadata or {}).get(b"vpr")
    if header is None:
        raise UserError(f"{path}: not a manifest, because its metadata has no 'vpr' entry; run `dvc repro verify`")
    return Manifest(**json.loads(header), rows=table.to_pandas())
