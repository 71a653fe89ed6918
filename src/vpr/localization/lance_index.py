"""An index in LanceDB, for databases that outgrow memory: photos are added, removed and filtered where they lie.

A folder, or a place in an object store, with two tables: ``photos``, a row for each, and ``facts``, what
``index.json`` says. A write is whole or not there, and a reader sees the photos as they were when it began. Search is
exact, or by an approximate index of LanceDB (``IVF_PQ``, ``IVF_RQ``), whose loss is measured when it is built.
https://lancedb.com/docs, the package ``lancedb`` (`make setup-scale`).
"""

from __future__ import annotations

import io
import json
import os
import warnings
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.data.coordinates import to_degrees
from vpr.localization.confidence import Calibration
from vpr.localization.filters import ANYWHERE, Where
from vpr.localization.index import INDEX_COLUMNS, Found, Index, IndexFacts, facts_as_json, facts_of, load_index

KINDS = ("IVF_PQ", "IVF_RQ")
PHOTOS, FACTS, VECTOR = "photos", "facts", "descriptor"
GOAL, AT = 0.95, 10  # share of the 10 nearest photos that an approximate index has to find, if any effort gives it
EFFORTS = (8, 16, 32, 64, 128, 256)  # partitions that a search looks at
REFINED = 20  # times the photos asked for are compared again by their whole descriptors
NUM_ASKED = 100  # photos of the database that the loss is measured with
_NOISE = 0.3  # length of what such a descriptor has of its own; that of a photo is 1
_OWN = (VECTOR, "lat", "lon", *INDEX_COLUMNS)


@dataclass(frozen=True)
class Approximate:
    """The approximate index of the photos.

    Attributes:
        kind: of ``KINDS``.
        effort: partitions that a search looks at.
        found: share of the 10 nearest photos that it finds, measured when it was built.
        num_photos: that it was built of; later ones are compared one by one until it is brought up to date.
    """

    kind: str
    effort: int
    found: float
    num_photos: int


class LanceIndex:
    """An index in LanceDB that is there.

    Args:
        where: a folder, or an address such as ``s3://bucket/photos``.
        exact: compare all photos, also where there is an approximate index.

    Raises:
        UserError: if it is not there, or LanceDB is not installed.
    """

    def __init__(self, where: str, exact: bool = False) -> None:
        self.where = where
        database = _connect(where)
        try:
            self._photos, self._facts = (database.open_table(name) for name in (PHOTOS, FACTS))
            row = self._facts.to_arrow().to_pylist()[0]
            self.facts, self.calibration = facts_of(row["content"], "facts")
            self.approximate = Approximate(**json.loads(row["approximate"])) if row["approximate"] else None
        except UserError:
            raise
        except Exception as error:  # of LanceDB's, in many ways
            raise UserError(f"{where}: no index in LanceDB that can be read: {_reason(error)}") from None
        if exact:
            self.approximate = None

    @classmethod
    def create(
        cls, where: str, facts: IndexFacts, calibration: Calibration | None, rows: pd.DataFrame, dim: int
    ) -> LanceIndex:
        """An index without photos.

        Args:
            rows: photos whose columns it will have.
            dim: of the descriptors.
        """
        database = _connect(where)
        schema = _table(rows, np.empty((len(rows), dim), np.float32)).schema
        database.create_table(PHOTOS, schema=schema, mode="overwrite")  # of one that was killed before its facts
        content = {"content": facts_as_json(facts, calibration), "approximate": ""}
        database.create_table(FACTS, pa.Table.from_pylist([content]))
        return cls(where)

    @staticmethod
    def is_at(where: str) -> bool:
        """Whether there is one, whole or not yet."""
        return {PHOTOS, FACTS} <= set(_connect(where).list_tables().tables)

    def __len__(self) -> int:
        return int(self._photos.count_rows())

    @property
    def descriptor_dim(self) -> int:
        """D."""
        return int(self._photos.schema.field(VECTOR).type.list_size)

    def search(self, queries: NDArray[np.float32], k: int, where: Where = ANYWHERE) -> list[Found]:
        """The nearest ``k`` photos of each query, among those that fit.

        Raises:
            UserError: if the condition can't be read.
        """
        return [self._search(query, k, where.as_sql()) for query in queries]

    def _search(self, query: NDArray[np.float32], k: int, sql: str | None) -> Found:
        asked = self._photos.search(query, vector_column_name=VECTOR).distance_type("l2").limit(k)
        if self.approximate is None:
            asked = asked.bypass_vector_index()
        else:
            asked = asked.nprobes(self.approximate.effort).refine_factor(REFINED)
        if sql is not None:
            asked = asked.where(sql, prefilter=True)
        try:
            found = asked.select([*INDEX_COLUMNS, "lat", "lon", "_distance"]).to_arrow().to_pandas()
        except Exception as error:  # of LanceDB's, in many ways
            said = f"; --where is {sql!r}, the columns are {self.columns}" if sql else ""
            raise UserError(f"{self.where}: can't be searched: {_reason(error)}{said}") from None
        distances = np.sqrt(np.maximum(found.pop("_distance").to_numpy(np.float32), 0))
        return Found(found, distances)

    @property
    def columns(self) -> list[str]:
        """What a condition may name."""
        return [name for name in self._photos.schema.names if name != VECTOR]

    def images(self) -> set[str]:
        """Names of all photos."""
        return set(self._photos.search().select(["image"]).to_arrow()["image"].to_pylist())

    def add(self, rows: pd.DataFrame, descriptors: NDArray[np.float32]) -> None:
        """Add photos; one of a name that is there takes the place of the old.

        Raises:
            UserError: if they have columns that the index has not.
        """
        table = _table(rows, descriptors)
        unknown = sorted(set(table.column_names) - set(self._photos.schema.names))
        if unknown:
            raise UserError(f"{self.where}: the photos have the columns {unknown}, the index has {self.columns}")
        columns = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(rows), field.type)
            for field in self._photos.schema
        ]
        whole = pa.Table.from_arrays(columns, schema=self._photos.schema)
        self._photos.merge_insert("image").when_matched_update_all().when_not_matched_insert_all().execute(whole)

    def remove(self, sql: str) -> int:
        """Remove the photos that fit a condition, and say how many.

        Raises:
            UserError: if the condition can't be read.
        """
        before = len(self)
        try:
            self._photos.delete(sql)
        except Exception as error:  # of LanceDB's, in many ways
            raise UserError(
                f"{self.where}: --where is {sql!r}: {_reason(error)}; the columns are {self.columns}"
            ) from None
        return before - len(self)

    def bring_up_to_date(self) -> None:
        """Put what was added in small pieces together, and into the approximate index."""
        self._photos.optimize(cleanup_older_than=timedelta(days=1))

    def build_approximate(self, kind: str) -> Approximate:
        """Build an approximate index of all photos, and measure what it loses.

        Of the efforts the least is kept that finds ``GOAL`` of the nearest photos, or the greatest.
        """
        from lancedb.index import IvfPq, IvfRq

        partitions = max(1, round(len(self) ** 0.5))
        options: dict[str, Any] = {"distance_type": "l2", "num_partitions": partitions}
        if kind == "IVF_PQ":
            options["num_sub_vectors"] = max(1, self.descriptor_dim // 8)
        config = {"IVF_PQ": IvfPq, "IVF_RQ": IvfRq}[kind](**options)
        self._photos.create_index(VECTOR, config=config, replace=True)
        asked = self._some_descriptors()
        self.approximate = None
        nearest = [set(found.images["image"]) for found in self.search(asked, AT)]
        for effort in EFFORTS:
            self.approximate = Approximate(kind, effort, 0.0, len(self))
            found = [set(each.images["image"]) for each in self.search(asked, AT)]
            share = float(np.mean([len(a & b) / max(1, len(b)) for a, b in zip(found, nearest, strict=True)]))
            self.approximate = replace(self.approximate, found=round(share, 4))
            if share >= GOAL or effort >= partitions:
                break
        assert self.approximate is not None
        self._facts.update(where="true", values={"approximate": json.dumps(asdict(self.approximate))})
        return self.approximate

    def _some_descriptors(self) -> NDArray[np.float32]:
        """Near those of some photos, as another photo of the place would have it."""
        rng = np.random.default_rng(0)
        rows = rng.choice(len(self), min(NUM_ASKED, len(self)), replace=False)
        column = self._photos.take_offsets(sorted(rows.tolist())).select([VECTOR]).to_arrow()[VECTOR]
        whole = column.combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
        whole = whole + rng.standard_normal(whole.shape, dtype=np.float32) * (_NOISE / np.sqrt(whole.shape[1]))
        return whole / np.linalg.norm(whole, axis=1, keepdims=True)


def packed(rows: pd.DataFrame) -> bytes:
    """Photos for ``ToLance``, wherever it runs."""
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class ToLance:
    """Adds photos to an index from any machine.

    Attributes:
        where: the index's address, which all machines reach.
    """

    where: str

    def __call__(self, shard: dict[str, Any], descriptors: NDArray[np.float32]) -> None:
        """Add the photos that are packed in ``shard["rows"]``; again, where that was interrupted."""
        LanceIndex(self.where).add(pd.read_parquet(io.BytesIO(shard["rows"])), descriptors)


def open_index(where: Path | str, exact: bool = False) -> Index | LanceIndex:
    """An index of either kind: a folder, or an address.

    Args:
        exact: compare all photos, also where there is an approximate index.
    """
    is_lance = "://" in str(where) or (Path(where) / f"{PHOTOS}.lance").is_dir()
    return LanceIndex(str(where), exact) if is_lance else load_index(Path(where))


def _table(rows: pd.DataFrame, descriptors: NDArray[np.float32]) -> pa.Table:
    """Photos as LanceDB keeps them: with latitude and longitude, and with columns of the user's own as they are."""
    lat, lon = to_degrees(
        rows["utm_east"].to_numpy(dtype=float), rows["utm_north"].to_numpy(dtype=float), rows["utm_zone"].to_list()
    )
    columns = {name: rows[name] for name in INDEX_COLUMNS} | {"lat": lat, "lon": lon}
    columns |= {name: rows[name] for name in rows if name not in _OWN}
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False).replace_schema_metadata(None)
    flat = pa.array(np.ascontiguousarray(descriptors, dtype=np.float32).ravel())
    return table.append_column(VECTOR, pa.FixedSizeListArray.from_arrays(flat, descriptors.shape[1]))


def _connect(where: str) -> Any:
    os.environ.setdefault("RUST_LOG", "error")  # it warns of every table that it makes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import lancedb
    except ImportError:
        raise UserError(
            f"{where}: an index in LanceDB needs the package lancedb: run `make setup-scale`, or pip install lancedb"
        ) from None
    return lancedb.connect(where)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
