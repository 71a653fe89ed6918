"""Compare a listing with what lies on the disk: a manifest, and every problem found on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from tqdm import tqdm

from vpr.datasets.manifest import DATABASE, KEY, QUERY, TRAIN, VERIFIED_COLUMNS, Manifest
from vpr.evaluation import positives_of
from vpr.project import data_root

CHUNK = 256


@dataclass(frozen=True)
class Verified:
    """A checked dataset.

    Attributes:
        manifest: the sound rows, with size and hash.
        problems: ``image, role, set, problem`` for each row left out.
        statistics: counts for ``metrics/dataset.json``.
    """

    manifest: Manifest
    problems: pd.DataFrame
    statistics: dict[str, Any]


def verify(listing: Manifest, radius_m: float, num_workers: int | None = None) -> Verified:
    """Read every image of a listing, and check rows, coordinates and positives.

    Files whose size and time are those of an earlier run are not read again.
    """
    rows = listing.rows.reset_index(drop=True)
    found: list[pd.DataFrame] = []

    def note(mask: Any, problem: Any) -> None:
        bad = rows.loc[mask, ["image", "role", "set"]].copy()
        bad["problem"] = problem if isinstance(problem, str) else problem[mask]
        found.append(bad)

    duplicate = rows.duplicated(KEY).to_numpy()
    note(duplicate, "listed twice with the same role")
    unsafe = (
        rows["image"].map(lambda image: ".." in Path(image).parts or Path(image).is_absolute()).to_numpy(dtype=bool)
    )
    note(unsafe, "its path leaves the dataset's folder; give paths relative to it, or set root")
    coordinate = _coordinate_problems(rows)
    homeless = (rows["role"] == TRAIN).to_numpy() & (rows["place_id"] == "").to_numpy()
    note(homeless, "a training image without a place id")
    note((coordinate != "").to_numpy(), coordinate)
    files = _read_files(listing, sorted(set(rows["image"][~unsafe])), num_workers)
    table = rows[["image"]].merge(files, on="image", how="left")
    broken = table["problem"].fillna("").astype(str)
    note(((broken != "") & ~unsafe).to_numpy(), broken)
    sound = ~(duplicate | unsafe | homeless | (coordinate != "").to_numpy() | (broken != "").to_numpy())
    for column, dtype in VERIFIED_COLUMNS.items():
        fill = 0 if dtype == "int64" else ""
        rows[column] = table[column].fillna(fill).astype(dtype)
    lonely = _without_positives(rows, sound, radius_m)
    note(lonely, "a query without any positive in its database")
    sound &= ~lonely
    problems = pd.concat(found, ignore_index=True)
    kept = rows[sound].drop(columns="problem", errors="ignore").reset_index(drop=True)
    manifest = Manifest(listing.name, listing.root, kept)
    return Verified(manifest, problems, _statistics(manifest, num_left_out=int((~sound).sum())))


def check_sets(manifest: Manifest, set_names: Sequence[str], keys: str) -> None:
    """Refuse evaluation sets that are not there, or lack database or queries.

    Args:
        keys: what names them in ``params.yaml``.
    """
    for name in set_names:
        for part, role in (("database", DATABASE), ("queries", QUERY)):
            try:
                rows = manifest.part(name, role)
            except ValueError as error:
                raise ValueError(f"params.yaml: {keys}: {error}") from None
            if rows.empty:
                raise ValueError(f"params.yaml: {keys}: evaluation set {name} has no {part}; list some, or take it off")


def _coordinate_problems(rows: pd.DataFrame) -> pd.Series:
    """What is wrong with each row's position; "" where nothing is."""
    problem = pd.Series("", index=rows.index, dtype=object)
    east, north = rows["utm_east"], rows["utm_north"]
    problem[east.isna() != north.isna()] = "only one of utm_east and utm_north is given"
    outside = ((east < 100_000) | (east > 900_000) | (north < 0) | (north > 10_000_000)).to_numpy()
    infinite = (np.isinf(east) | np.isinf(north)).to_numpy()
    problem[outside | infinite] = "utm_east or utm_north is no UTM coordinate in metres"
    # In a set where some have coordinates, all need them.
    for (_, set_name), group in rows.groupby(["role", "set"]):
        known = group["utm_east"].notna() & group["utm_north"].notna()
        if set_name and known.any() and not known.all():
            missing = group.index[~known]
            problem[missing] = problem[missing].where(
                problem[missing] != "", "no coordinates, others of its set have them"
            )
    if "problem" in rows:  # what the adapter could not read
        told = (rows["problem"] != "").to_numpy()
        problem[told] = rows.loc[told, "problem"]
    return problem


def _without_positives(rows: pd.DataFrame, sound: Any, radius_m: float) -> Any:
    lonely = np.zeros(len(rows), dtype=bool)
    for set_name in sorted(set(rows["set"]) - {""}):
        in_set = (rows["set"] == set_name).to_numpy() & sound
        database = rows[in_set & (rows["role"] == DATABASE).to_numpy()]
        queries = rows[in_set & (rows["role"] == QUERY).to_numpy()]
        positives = positives_of(database, queries, radius_m)
        if positives is not None:
            lonely[queries.index[[len(p) == 0 for p in positives]]] = True
    return lonely


def _read_files(listing: Manifest, images: list[str], num_workers: int | None) -> pd.DataFrame:
    """``image, num_bytes, sha256, width, height, problem`` of each file; earlier readings are kept."""
    folder = listing.folder
    memory = data_root() / ".verified" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.parquet"
    known: dict[str, dict[str, Any]] = {}
    if memory.is_file():
        known = {row["image"]: row for row in pd.read_parquet(memory).to_dict("records")}
    results: list[dict[str, Any]] = []
    to_read: list[str] = []
    for image in images:
        before = known.get(image)
        if before is not None and _stamp(folder / image) == (before["num_bytes"], before["mtime_ns"]):
            results.append(before)
        else:
            to_read.append(image)
    with tqdm(total=len(images), initial=len(results), unit="image", desc="verifying", mininterval=1) as bar:
        for chunk in _read_all(folder, to_read, num_workers):
            results += chunk
            bar.update(len(chunk))
    table = pd.DataFrame(results, columns=["image", "mtime_ns", *VERIFIED_COLUMNS, "problem"])
    if to_read:
        memory.parent.mkdir(parents=True, exist_ok=True)
        part = memory.with_suffix(f".{os.getpid()}.part")
        table[table["problem"] == ""].to_parquet(part)
        part.replace(memory)
    return table


def _read_all(folder: Path, images: list[str], num_workers: int | None) -> Iterator[list[dict[str, Any]]]:
    jobs = [(folder, images[k : k + CHUNK]) for k in range(0, len(images), CHUNK)]
    workers = min(num_workers or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        yield from map(_read_chunk, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_read_chunk, jobs)


def _read_chunk(job: tuple[Path, list[str]]) -> list[dict[str, Any]]:
    folder, images = job
    return [_read_file(folder, image) for image in images]


def _read_file(folder: Path, image: str) -> dict[str, Any]:
    path = folder / image
    row: dict[str, Any] = {"image": image, "mtime_ns": 0, "num_bytes": 0, "sha256": "", "width": 0, "height": 0}
    try:
        stat = path.stat()
        content = path.read_bytes()
        row |= {"num_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": hashlib.sha256(content).hexdigest()}
        with Image.open(path) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            row |= {"width": upright.width, "height": upright.height}
    except FileNotFoundError:
        return row | {"problem": "the file is missing"}
    except Exception as error:  # a broken image fails in many ways, all of them belong in the report
        return row | {"problem": f"can't be decoded: {type(error).__name__}: {error}".replace(str(path), "the file")}
    return row | {"problem": ""}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _statistics(manifest: Manifest, num_left_out: int) -> dict[str, Any]:
    rows = manifest.rows
    train = manifest.train()
    per_place = train.groupby("place_id").size() if len(train) else pd.Series(dtype=int)
    statistics: dict[str, Any] = {
        "num_images": int(rows["image"].nunique()),
        "num_bytes": int(rows.drop_duplicates("image")["num_bytes"].sum()),
        "num_left_out": num_left_out,
        "train": {
            "num_images": len(train),
            "num_places": len(per_place),
            "images_per_place_min": int(per_place.min()) if len(per_place) else 0,
            "images_per_place_median": float(per_place.median()) if len(per_place) else 0.0,
            "images_per_place_max": int(per_place.max()) if len(per_place) else 0,
        },
    }
    for set_name in manifest.set_names():
        statistics[set_name] = {
            "num_database": len(manifest.part(set_name, DATABASE)),
            "num_queries": len(manifest.part(set_name, QUERY)),
        }
    return statistics
