"""The manifest: one table with a row for each image and role, whatever the dataset.

Adapters yield *listings* (what should be there); the verify stage reads the files and writes the
*manifest* (what is there). Both are this table; sizes and hashes are filled in by verify.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vpr.project import resolve_root

TRAIN, DATABASE, QUERY = "train", "database", "query"
ROLES = (TRAIN, DATABASE, QUERY)
KEY = ["role", "set", "image"]

# Columns of every manifest. Text is "" and a number NaN where nothing is known.
COLUMNS: dict[str, str] = {
    "image": "str",  # path relative to the root, with forward slashes
    "role": "str",  # train, database or query
    "set": "str",  # name of the evaluation set; "" for training images
    "place_id": "str",  # unique within the role and set
    "utm_east": "float64",  # metres
    "utm_north": "float64",
    "utm_zone": "str",  # number and band, such as 32T
    "heading": "float64",  # degrees clockwise from north
    "timestamp": "str",  # YYYYMM or finer
}
VERIFIED_COLUMNS: dict[str, str] = {"num_bytes": "int64", "sha256": "str", "width": "int64", "height": "int64"}


@dataclass(frozen=True)
class Manifest:
    """A dataset's table and the folder its image paths start from (see ``vpr.project.resolve_root``)."""

    name: str
    root: str
    rows: pd.DataFrame

    @property
    def folder(self) -> Path:
        return resolve_root(self.root)

    @property
    def extra_columns(self) -> list[str]:
        """Columns that this dataset has beyond the common ones."""
        return [c for c in self.rows.columns if c not in COLUMNS and c not in VERIFIED_COLUMNS]

    def train(self) -> pd.DataFrame:
        """Rows of the training images."""
        return self._part(TRAIN, "")

    def part(self, set_name: str, role: str) -> pd.DataFrame:
        """Rows of the database or of the queries of an evaluation set.

        Raises:
            ValueError: if the dataset has no such set.
        """
        names = self.set_names()
        if set_name not in names:
            raise ValueError(f"dataset {self.name} has no evaluation set {set_name!r}; it has: {', '.join(names)}")
        return self._part(role, set_name)

    def set_names(self) -> list[str]:
        """Names of the evaluation sets."""
        return sorted(set(self.rows.loc[self.rows["role"] != TRAIN, "set"]))

    def _part(self, role: str, set_name: str) -> pd.DataFrame:
        chosen = (self.rows["role"] == role) & (self.rows["set"] == set_name)
        return self.rows[chosen].reset_index(drop=True)


def make_manifest(name: str, root: str, rows: pd.DataFrame) -> Manifest:
    """Bring an adapter's rows to the common columns, in a fixed order."""
    table = rows.copy()
    for column, dtype in COLUMNS.items():
        if column not in table:
            table[column] = "" if dtype == "str" else float("nan")
        elif dtype == "str":
            table[column] = table[column].fillna("")
        table[column] = table[column].astype(dtype)
    unknown = sorted(set(table["role"]) - set(ROLES))
    if unknown:
        raise ValueError(f"dataset {name}: unknown roles {unknown}; choose from {list(ROLES)}")
    extra = [c for c in table.columns if c not in COLUMNS]
    table = table[[*COLUMNS, *extra]].sort_values(KEY, kind="stable").reset_index(drop=True)
    return Manifest(name, root, table)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest as Parquet, its name and root in the file's metadata."""
    table = pa.Table.from_pandas(manifest.rows, preserve_index=False)
    note = json.dumps({"name": manifest.name, "root": manifest.root})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), b"vpr": note.encode()}), path)


def read_manifest(path: Path) -> Manifest:
    """Read what ``write_manifest`` wrote.

    Raises:
        FileNotFoundError: if the stage that writes it has not run.
        ValueError: if the file is another Parquet file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no manifest; run `dvc repro verify` first")
    table = pq.read_table(path)
    note = (table.schema.metadata or {}).get(b"vpr")
    if note is None:
        raise ValueError(f"{path}: not a manifest, its metadata has no 'vpr' entry; run `dvc repro verify`")
    return Manifest(**json.loads(note), rows=table.to_pandas())
