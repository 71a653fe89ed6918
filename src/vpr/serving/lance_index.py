"""An index in LanceDB, for databases that outgrow memory. Photos are added, removed and filtered in place.

The index is a folder, or a place in an object store, with two tables: ``photos``, a row for each photo, and ``facts``,
the content of ``index.json``. Each write succeeds completely or not at all, and a reader sees the photos as they were
when it began. Search is exact, or uses an approximate index of LanceDB (``IVF_PQ``, ``IVF_RQ``) whose loss is measured
when it is built. See https://lancedb.com/docs; `make setup-scale` installs the package ``lancedb``.
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

from vpr.config.errors import UserError, one_line
from vpr.data.positions import Positions
from vpr.descriptors.trained_model import Model
from vpr.localization.confidence import Calibration
from vpr.localization.index_files import INDEX_COLUMNS, IndexFacts, facts_as_json, facts_from_json
from vpr.serving.filters import ANYWHERE, Where
from vpr.serving.index import Found, Index, facts_of
from vpr.serving.located_photos import located_photos

KINDS = ("IVF_PQ", "IVF_RQ")
PHOTOS, FACTS, VECTOR = "photos", "facts", "descriptor"
GOAL, AT = 0.95, 10  # share of the 10 nearest photos that an approximate index should find
EFFORTS = (8, 16, 32, 64, 128, 256)  # numbers of partitions to try for a search
REFINED = 20  # this many times the requested photos are compared again by their whole descriptors
NUM_ASKED = 100  # database photos that the loss is measured with
PIECE = 4096  # photos that are added at a time
OPTIMIZE_ABOVE = 0.02  # compact the index after adding more than this share; that takes a minute for a million photos
_NOISE = 0.3  # norm of the noise added to a database descriptor of norm 1 to make a query
_OWN = (VECTOR, "lat", "lon", *INDEX_COLUMNS)


@dataclass(frozen=True)
class Approximate:
    """The approximate index of the photos.

    Attributes:
        kind: One of ``KINDS``.
        effort: Number of partitions that a search visits.
        found: Share of the 10 nearest photos that it finds, measured when it was built.
        num_photos: Number of photos when it was built; later photos are compared one by one until it is optimized.
    """

    kind: str
    effort: int
    found: float
    num_photos: int


class LanceIndex:
    """An existing index in LanceDB.

    Args:
        where: Folder, or address such as ``s3://bucket/photos``.
        exact: Compare all photos, even if there is an approximate index.

    Raises:
        UserError: if there is no such index, or LanceDB is not installed.
    """

    def __init__(self, where: str, exact: bool = False) -> None:
        self.where = where
        database = _connect(where)
        try:
            self._photos, self._facts = (database.open_table(name) for name in (PHOTOS, FACTS))
            row = self._facts.to_arrow().to_pylist()[0]
            self.facts, self.calibration = facts_from_json(row["content"], "facts")
            self.approximate = Approximate(**json.loads(row["approximate"])) if row["approximate"] else None
        except UserError:
            raise
        except Exception as error:  # LanceDB raises many kinds
            raise UserError(f"{where}: no readable index in LanceDB: {one_line(error, 200)}") from None
        if exact:
            self.approximate = None

    @classmethod
    def create(
        cls, where: str, facts: IndexFacts, calibration: Calibration | None, rows: pd.DataFrame, dim: int
    ) -> LanceIndex:
        """Create an index without photos.

        Args:
            where: Folder or address of the index.
            facts: Model, name and radius of the index.
            calibration: Calibration of the confidence; ``None`` for none.
            rows: Photos whose columns the index gets.
            dim: Size of the descriptors.
        """
        database = _connect(where)
        schema = _table(rows, np.empty((len(rows), dim), np.float32)).schema
        database.create_table(PHOTOS, schema=schema, mode="overwrite")  # a killed run may have left it without facts
        content = {"content": facts_as_json(facts, calibration), "approximate": ""}
        database.create_table(FACTS, pa.Table.from_pylist([content]))
        return cls(where)

    @staticmethod
    def is_at(where: str) -> bool:
        """Return whether there is an index, even one without photos."""
        return {PHOTOS, FACTS} <= set(_connect(where).list_tables().tables)

    def __len__(self) -> int:
        return int(self._photos.count_rows())

    @property
    def descriptor_dim(self) -> int:
        """Size of a descriptor, D."""
        return int(self._photos.schema.field(VECTOR).type.list_size)

    def search(self, queries: NDArray[np.float32], k: int, where: Where = ANYWHERE) -> list[Found]:
        """Return the nearest ``k`` photos of each query that meet a condition.

        Raises:
            UserError: if LanceDB cannot parse the condition.
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
        except Exception as error:  # LanceDB raises many kinds
            condition = f"; --where is {sql!r}, the columns are {self.columns}" if sql else ""
            raise UserError(f"{self.where}: cannot be searched: {one_line(error, 200)}{condition}") from None
        distances = np.sqrt(np.maximum(found.pop("_distance").to_numpy(np.float32), 0))
        return Found(found, distances)

    @property
    def columns(self) -> list[str]:
        """Columns that a condition can name."""
        return [name for name in self._photos.schema.names if name != VECTOR]

    def images(self) -> set[str]:
        """Return the names of all photos."""
        return set(self._photos.search().select(["image"]).to_arrow()["image"].to_pylist())

    def add(self, rows: pd.DataFrame, descriptors: NDArray[np.float32]) -> None:
        """Add photos; a photo replaces an existing one of the same name.

        Raises:
            UserError: if the photos have columns that the index lacks.
        """
        table = _table(rows, descriptors)
        unknown = sorted(set(table.column_names) - set(self._photos.schema.names))
        if unknown:
            raise UserError(
                f"{self.where}: the photos have the columns {unknown}, but the index only has {self.columns}"
            )
        columns = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(rows), field.type)
            for field in self._photos.schema
        ]
        whole = pa.Table.from_arrays(columns, schema=self._photos.schema)
        self._photos.merge_insert("image").when_matched_update_all().when_not_matched_insert_all().execute(whole)

    def remove(self, sql: str) -> int:
        """Remove the photos that meet a condition, and return how many there were.

        Raises:
            UserError: if LanceDB cannot parse the condition.
        """
        before = len(self)
        try:
            self._photos.delete(sql)
        except Exception as error:  # LanceDB raises many kinds
            raise UserError(
                f"{self.where}: the condition is {sql!r}: {one_line(error, 200)}; the columns are {self.columns}"
            ) from None
        return before - len(self)

    def optimize(self) -> None:
        """Merge small pieces, and add new photos to the approximate index."""
        self._photos.optimize(cleanup_older_than=timedelta(days=1))

    def build_approximate(self, kind: str) -> Approximate:
        """Build an approximate index of all photos, and measure its loss.

        The least effort that finds ``GOAL`` of the nearest photos is kept, or else the greatest effort.
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
        """Return descriptors near those of some photos, as other photos of the same places would have them."""
        rng = np.random.default_rng(0)
        rows = rng.choice(len(self), min(NUM_ASKED, len(self)), replace=False)
        column = self._photos.take_offsets(sorted(rows.tolist())).select([VECTOR]).to_arrow()[VECTOR]
        whole = column.combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
        whole = whole + rng.standard_normal(whole.shape, dtype=np.float32) * (_NOISE / np.sqrt(whole.shape[1]))
        return whole / np.linalg.norm(whole, axis=1, keepdims=True)


def add_photos(
    photos: Path,
    model: Model,
    where: str,
    radius_m: float | None = None,
    calibrated: Path | None = None,
    batch_size: int | None = None,
    engine: str = "local",
) -> tuple[LanceIndex, int]:
    """Describe the photos that an index lacks, and add them; a missing index is created.

    Photos are added in pieces, so that an interrupted run continues where it stopped.

    Args:
        photos: A folder, or a table as ``datasets.custom`` takes it.
        model: Model that describes the photos.
        where: Folder or address of the index.
        radius_m, calibrated, batch_size: See ``Index.build``.
        engine: ``local``, or ``ray``, in which case each machine adds the photos that it has described.

    Returns:
        The index, and the number of new photos.

    Raises:
        UserError: if no photo has a position, or another model described the index.
    """
    folder, rows = located_photos(photos)
    if LanceIndex.is_at(where):
        index = LanceIndex(where)
        if index.facts.model_sha256 != model.sha256:
            raise UserError(
                f"{where} was described by another model than {model.checkpoint}; name another place for --out"
            )
        rows = rows[~rows["image"].isin(index.images())].reset_index(drop=True)
    else:
        facts, calibration = facts_of(str(photos), model, radius_m, calibrated)
        index = LanceIndex.create(where, facts, calibration, rows, model.descriptor_dim)
    pieces = [rows.iloc[start : start + PIECE] for start in range(0, len(rows), PIECE)]
    if engine == "ray":
        from vpr.descriptors.ray_extraction import describe_shards

        shards = [
            {"shard": k, "images": piece["image"].to_list(), "rows": packed(piece)} for k, piece in enumerate(pieces)
        ]
        address = where if "://" in where else str(Path(where).resolve())
        images = model.images(folder.resolve(), rows["image"])
        describe_shards(shards, model.checkpoint, images, ToLance(address), "auto", batch_size, "describing")
        index, pieces = LanceIndex(where), []  # open the index again, as the machines have left it
    for number, piece in enumerate(pieces):
        start = number * PIECE
        title = f"describing, photos {start + 1} to {start + len(piece)} of {len(rows)}"
        images = model.images(folder, piece["image"])
        index.add(piece, model.describe(images, batch_size, show_progress=True, num_workers=None, title=title))
    if len(rows) > OPTIMIZE_ABOVE * len(index):
        index.optimize()
    return index, len(rows)


def packed(rows: pd.DataFrame) -> bytes:
    """Return rows as bytes that ``ToLance`` reads on another machine."""
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class ToLance:
    """Adds photos to an index from any machine.

    Attributes:
        where: Address of the index, which all machines can reach.
    """

    where: str

    def __call__(self, shard: dict[str, Any], descriptors: NDArray[np.float32]) -> None:
        """Add the photos packed in ``shard["rows"]``; adding them again after an interruption changes nothing."""
        LanceIndex(self.where).add(pd.read_parquet(io.BytesIO(shard["rows"])), descriptors)


def open_index(where: Path | str, exact: bool = False) -> Index | LanceIndex:
    """Open an index of either kind.

    Args:
        where: Folder or address of the index.
        exact: Compare all photos, even if there is an approximate index.
    """
    is_lance = "://" in str(where) or (Path(where) / f"{PHOTOS}.lance").is_dir()
    return LanceIndex(str(where), exact) if is_lance else Index.load(where)


def _table(rows: pd.DataFrame, descriptors: NDArray[np.float32]) -> pa.Table:
    """Return photos as LanceDB stores them, with latitude, longitude and the user's own columns."""
    lat, lon = Positions.of(rows).degrees
    columns = {name: rows[name] for name in INDEX_COLUMNS} | {"lat": lat, "lon": lon}
    columns |= {name: rows[name] for name in rows if name not in _OWN}
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False).replace_schema_metadata(None)
    flat = pa.array(np.ascontiguousarray(descriptors, dtype=np.float32).ravel())
    return table.append_column(VECTOR, pa.FixedSizeListArray.from_arrays(flat, descriptors.shape[1]))


def _connect(where: str) -> Any:
    os.environ.setdefault("RUST_LOG", "error")  # LanceDB warns about every table that it creates
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import lancedb
    except ImportError:
        raise UserError(
            f"{where}: an index in LanceDB needs the package lancedb: run `make setup-scale`, or pip install lancedb"
        ) from None
    return lancedb.connect(where)
