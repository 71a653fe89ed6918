"""Compare a listing with what lies on the disk: a manifest, and everything noticed on the way.

An *error* is a row that can't be used; a *warning* is something to know of rows that are.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from tqdm import tqdm

from vpr.datasets.coordinates import metres_apart, to_degrees
from vpr.datasets.manifest import DATABASE, KEY, QUERY, TRAIN, VERIFIED_COLUMNS, Manifest
from vpr.evaluation import positives_of
from vpr.project import data_root

CHUNK = 256
SAVE_EVERY_S = 30.0
MAX_DISAGREEMENT_M = 2.0  # of a name's UTM and its degrees, which have 5 decimals
MAX_PLACE_SPAN_M = 50.0
_TURNED = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_FILE_COLUMNS = ["image", "mtime_ns", *VERIFIED_COLUMNS, "problem"]
_PROBLEM_COLUMNS = ["severity", "role", "set", "image", "problem"]


@dataclass(frozen=True)
class Verified:
    """A checked dataset.

    Attributes:
        manifest: the sound rows, with size and hash.
        problems: ``severity, role, set, image, problem``: an ``error`` for each row left out, and each ``warning``.
        differences: what a source holds more or less of than it should.
        statistics: counts for ``metrics/dataset.json``.
    """

    manifest: Manifest
    problems: pd.DataFrame
    differences: list[str]
    statistics: dict[str, Any]


class _Notes:
    """Problems by row, in the order they are looked for."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows
        self.sound = np.ones(len(rows), dtype=bool)
        self.found: list[pd.DataFrame] = []

    def add(self, severity: Literal["error", "warning"], mask: Any, problem: Any) -> None:
        """Note a problem of the rows in ``mask``, one text for all or one for each row of the table."""
        mask = np.asarray(mask, dtype=bool)
        if mask.any():
            bad = self.rows.loc[mask, ["role", "set", "image"]].copy()
            bad["problem"] = problem if isinstance(problem, str) else np.asarray(problem, dtype=object)[mask]
            bad["severity"] = severity
            self.found.append(bad[_PROBLEM_COLUMNS])
        if severity == "error":
            self.sound &= ~mask

    def table(self) -> pd.DataFrame:
        """All of them, errors first."""
        if not self.found:
            return pd.DataFrame(columns=_PROBLEM_COLUMNS)
        return pd.concat(self.found, ignore_index=True).sort_values("severity", kind="stable", ignore_index=True)


def verify(
    listing: Manifest,
    radius_m: float,
    num_workers: int | None = None,
    queries_without_positives: Literal["keep", "leave_out"] = "keep",
) -> Verified:
    """Read every image of a listing, and check names, coordinates, positives, counts and duplicates.

    Files whose size and time are those of an earlier run are not read again; an interrupted run goes on.

    Args:
        radius_m: a database image within it is a positive.
        num_workers: processes; ``None`` takes all cores.
        queries_without_positives: keep them, to count as not found, or leave them out.
    """
    rows = listing.rows.reset_index(drop=True)
    notes = _Notes(rows)
    notes.add("error", rows.duplicated(KEY), "listed twice with the same role")
    unsafe = rows["image"].map(lambda image: image.startswith("/") or ".." in image.split("/")).to_numpy(dtype=bool)
    notes.add("error", unsafe, "its path leaves the dataset's folder; give paths relative to it, or set root")
    if "problem" in rows:
        notes.add("error", rows["problem"] != "", rows["problem"])
    _check_coordinates(rows, notes)
    train = (rows["role"] == TRAIN).to_numpy()
    homeless = train & (rows["place_id"] == "").to_numpy() & notes.sound
    notes.add("error", homeless, "a training image without a place id")
    files = _read_all_files(listing.folder, sorted(set(rows["image"][~unsafe])), num_workers)
    table = rows[["image"]].merge(files, on="image", how="left")
    broken = table["problem"].astype(object).fillna("").to_numpy(dtype=object)
    notes.add("error", (broken != "") & ~unsafe, broken)
    for column, dtype in VERIFIED_COLUMNS.items():
        rows[column] = table[column].astype(object).fillna(0 if dtype == "int64" else "").astype(dtype)
    _check_duplicates(rows, notes)
    _check_spans(rows, notes)
    lonely = _without_positives(rows, notes.sound, radius_m)
    leave_out = queries_without_positives == "leave_out"
    notes.add("warning", lonely, f"a query without any positive in its database{', left out' if leave_out else ''}")
    if leave_out:
        notes.sound &= ~lonely
    sources = _sound_counts(listing.notes.get("sources", {}), rows, notes.sound | lonely)
    differences = count_differences(sources)
    kept = rows[notes.sound].drop(columns="problem", errors="ignore").reset_index(drop=True)
    given = listing.notes | ({"sources": sources} if sources else {})
    manifest = Manifest(listing.name, listing.root, kept, given)
    problems = notes.table()
    statistics = _statistics(manifest, problems, len(rows), rows[notes.sound & lonely])
    return Verified(manifest, problems, differences, statistics)


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


def _check_coordinates(rows: pd.DataFrame, notes: _Notes) -> None:
    east, north = rows["utm_east"].to_numpy(), rows["utm_north"].to_numpy()
    notes.add("error", np.isnan(east) != np.isnan(north), "only one of utm_east and utm_north is given")
    # Without a zone they are metres of a map of its own, as Nordland's and AmsterTime's are.
    on_grid = (rows["utm_zone"] != "").to_numpy()
    outside = (east < 100_000) | (east > 900_000) | (north < 0) | (north > 10_000_000)
    infinite = np.isinf(east) | np.isinf(north)
    notes.add("error", (outside & on_grid) | infinite, "utm_east or utm_north is no UTM coordinate in metres")
    # In a set where some have coordinates, all need them.
    known = np.isfinite(east) & np.isfinite(north)
    in_set = np.array(rows["set"] != "")
    if "positive_frames" in rows:  # where positives are listed, no query needs a position
        in_set &= ~rows["set"].isin(set(rows.loc[rows["positive_frames"].fillna("") != "", "set"])).to_numpy()
    some = rows.groupby(["role", "set"])["utm_east"].transform("count").to_numpy() > 0
    missing = in_set & some & np.isnan(east) & np.isnan(north) & notes.sound
    notes.add("error", missing, "no coordinates, others of its set have them")
    if {"lat", "lon"} <= set(rows):
        lat, lon = (pd.to_numeric(rows[c], errors="coerce").to_numpy(dtype=float) for c in ("lat", "lon"))
        both = known & np.isfinite(lat) & np.isfinite(lon)
        at = np.flatnonzero(both & ~outside)
        from_utm = to_degrees(east[at], north[at], rows["utm_zone"].iloc[at].to_list())
        unreadable = np.zeros(len(rows), dtype=bool)
        unreadable[at] = np.isnan(from_utm[0])
        told = "utm_zone is no zone: '" + rows["utm_zone"].astype(str) + "'; expected one such as 32T"
        notes.add("error", unreadable, told)
        apart = np.zeros(len(rows))
        apart[at] = np.nan_to_num(metres_apart(lat[at], lon[at], *from_utm))
        told = [f"utm and lat, lon: {m:,.1f} m apart" if m > MAX_DISAGREEMENT_M else "" for m in apart]
        notes.add("error", apart > MAX_DISAGREEMENT_M, told)


def _check_duplicates(rows: pd.DataFrame, notes: _Notes) -> None:
    """The same content where a model is trained and where it is evaluated, or as query and as database image."""
    sound = notes.sound
    train = (rows["role"] == TRAIN).to_numpy()
    first = rows[sound & train].drop_duplicates("sha256").set_index("sha256")["image"]
    leaked = sound & ~train & rows["sha256"].isin(first.index).to_numpy()
    seen = rows["sha256"].map(first).astype(object).fillna("")
    notes.add("warning", leaked, "leakage: the same content as a training image: " + seen)
    own = rows[sound & train]
    places = own.groupby("sha256")["place_id"].transform("nunique")
    twice = np.zeros(len(rows), dtype=bool)
    twice[own.index[places > 1]] = True
    told = "the same content in several training places: " + rows["place_id"].astype(str)
    notes.add("warning", twice, told)
    database = rows[sound & (rows["role"] == DATABASE).to_numpy()].drop_duplicates(["set", "sha256"])
    queries = rows[sound & (rows["role"] == QUERY).to_numpy()]
    same = queries.reset_index().merge(database[["set", "sha256", "image"]], on=["set", "sha256"], suffixes=("", "_db"))
    mask, told = np.zeros(len(rows), dtype=bool), np.full(len(rows), "", dtype=object)
    mask[same["index"]] = True
    told[same["index"]] = "the same content as an image of its database: " + same["image_db"]
    notes.add("warning", mask, told)


def _check_spans(rows: pd.DataFrame, notes: _Notes) -> None:
    """Training places whose images are far apart."""
    here = rows[notes.sound & (rows["role"] == TRAIN).to_numpy() & rows["utm_east"].notna().to_numpy()]
    if here.empty:
        return
    groups = here.groupby("place_id")[["utm_east", "utm_north"]]
    box = groups.max() - groups.min()
    wide = set(box.index[np.hypot(box["utm_east"], box["utm_north"]) > MAX_PLACE_SPAN_M])
    mask, told = np.zeros(len(rows), dtype=bool), np.full(len(rows), "", dtype=object)
    for place, group in here[here["place_id"].isin(wide)].groupby("place_id"):
        span_m = _span_m(group[["utm_east", "utm_north"]].to_numpy())
        if span_m > MAX_PLACE_SPAN_M:
            mask[group.index[0]] = True
            told[group.index[0]] = f"images of one place far apart: {place} spans {span_m:,.0f} m"
    notes.add("warning", mask, told)


def _span_m(points: Any) -> float:
    """The greatest distance between two points."""
    if len(points) > 1000:
        points = points[ConvexHull(points, qhull_options="QJ").vertices]
    return float(pdist(points).max())


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


def _sound_counts(sources: Mapping[str, Any], rows: pd.DataFrame, sound: Any) -> dict[str, Any]:
    """The counts of each source without the images that turned out to be unusable."""
    counted = {}
    for name, source in sources.items():
        found = dict(source["found"])
        bad = rows[(rows["source"] == name).to_numpy() & ~sound].drop_duplicates("image")["role"]
        for what, role in (("images", TRAIN), ("database", DATABASE), ("queries", QUERY)):
            if what in found:
                found[what] -= int((bad == role).sum())
        if "places" in found:
            own = (rows["source"] == name).to_numpy() & (rows["place_id"] != "").to_numpy()
            found["places"] -= rows.loc[own, "place_id"].nunique() - rows.loc[own & sound, "place_id"].nunique()
        counted[name] = {**source, "found": found}
    return counted


def count_differences(sources: Mapping[str, Any]) -> list[str]:
    """What each source holds, against what it should."""
    differences = []
    for name, source in sorted(sources.items()):
        for what, expected in source["expected"].items():
            found = source["found"].get(what, 0)
            if isinstance(expected, list) and isinstance(expected[0], str):
                names = set(source["found"].get("city_names", []))
                missing, more = sorted(set(expected) - names), sorted(names - set(expected))
                told = [f"without {', '.join(missing)}"] if missing else []
                told += [f"unexpected: {', '.join(more)}"] if more else []
                if told:
                    differences.append(f"{name}: {found} {what}, {len(expected)} expected; {'; '.join(told)}")
                continue
            least, most = (expected, expected) if isinstance(expected, int) else expected
            if not least <= found <= most:
                wanted = f"{least:,}" if least == most else f"{least:,} to {most:,}"
                differences.append(f"{name}: {found:,} {what}, {wanted} expected")
    return differences


def kind_of(problems: pd.Series) -> pd.Series:
    """Problems without the values in them, to count those of a kind."""
    return problems.str.replace(r":.*", "", regex=True).str.replace(r"'[^']*'", "'...'", regex=True)


def _read_all_files(folder: Path, images: list[str], num_workers: int | None) -> pd.DataFrame:
    """What is known of each file; those of a linked folder are remembered by where it really lies."""
    groups: dict[str, list[str]] = {}
    for image in images:
        groups.setdefault(image.partition("/")[0], []).append(image)
    linked = {top for top in groups if "/" in groups[top][0] and (folder / top).is_symlink()}
    read = [
        _read_files((folder / top).resolve(), [image.partition("/")[2] for image in groups[top]], num_workers, top)
        for top in sorted(linked)
    ]
    rest = [image for top, members in groups.items() if top not in linked for image in members]
    for top, table in zip(sorted(linked), read, strict=True):
        table["image"] = f"{top}/" + table["image"]
    if rest or not read:
        read.append(_read_files(folder, rest, num_workers, folder.name))
    return pd.concat(read, ignore_index=True)


def _read_files(folder: Path, images: list[str], num_workers: int | None, name: str) -> pd.DataFrame:
    """Size, hash and problem of each file; earlier readings of unchanged files are kept."""
    memory = data_root() / ".verified" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.parquet"
    known = pd.read_parquet(memory) if memory.is_file() else pd.DataFrame(columns=_FILE_COLUMNS)
    now = pd.DataFrame([(i, *_stamp(f"{folder}/{i}")) for i in images], columns=["image", "bytes_now", "mtime_now"])
    before = now.merge(known, on="image", how="left")
    same = ((before["num_bytes"] == before["bytes_now"]) & (before["mtime_ns"] == before["mtime_now"])).to_numpy()
    kept = before.loc[same, _FILE_COLUMNS]
    to_read = now.loc[~same, "image"].to_list()
    results: list[tuple[Any, ...]] = []
    saved_at = time.monotonic()
    with tqdm(total=len(images), initial=len(kept), unit="image", desc=f"verifying {name}", mininterval=1) as bar:
        for chunk in _read_all(folder, to_read, num_workers):
            results += chunk
            bar.update(len(chunk))
            if time.monotonic() - saved_at > SAVE_EVERY_S:
                _save(memory, known, results)
                saved_at = time.monotonic()
    if to_read:
        _save(memory, known, results)
    read = pd.DataFrame(results, columns=_FILE_COLUMNS)
    return pd.concat([part for part in (kept, read) if len(part)] or [read], ignore_index=True)


def _save(memory: Path, known: pd.DataFrame, results: list[tuple[Any, ...]]) -> None:
    """Remember the sound files, those of other listings of this folder included."""
    read = pd.DataFrame(results, columns=_FILE_COLUMNS)
    table = pd.concat([known[~known["image"].isin(set(read["image"]))], read[read["problem"] == ""]], ignore_index=True)
    memory.parent.mkdir(parents=True, exist_ok=True)
    part = memory.with_suffix(f".{os.getpid()}.part")
    table.to_parquet(part)
    part.replace(memory)


def _read_all(folder: Path, images: list[str], num_workers: int | None) -> Iterator[list[tuple[Any, ...]]]:
    jobs = [(folder, images[k : k + CHUNK]) for k in range(0, len(images), CHUNK)]
    workers = min(num_workers or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        yield from map(_read_chunk, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_read_chunk, jobs)


def _read_chunk(job: tuple[Path, list[str]]) -> list[tuple[Any, ...]]:
    folder, images = job
    return [_read_file(folder, image) for image in images]


def _read_file(folder: Path, image: str) -> tuple[Any, ...]:
    """A row of ``_FILE_COLUMNS``."""
    path = folder / image
    num_bytes, mtime_ns = _stamp(str(path))
    sha256, width, height = "", 0, 0
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        with Image.open(path) as opened:
            opened.load()
            width, height = opened.size
            if opened.getexif().get(0x0112) in _TURNED:
                width, height = height, width
        problem = ""
    except FileNotFoundError:
        problem = "the file is missing"
    except Exception as error:  # a broken image fails in many ways, all of them belong in the report
        problem = f"can't be decoded: {type(error).__name__}: {error}".replace(str(path), "the file")
    return image, mtime_ns, num_bytes, sha256, width, height, problem


def _stamp(path: str) -> tuple[int, int]:
    """Size in bytes and time of change; -1 where there is no file."""
    try:
        stat = os.stat(path)  # noqa: PTH116 half a million times
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _statistics(manifest: Manifest, problems: pd.DataFrame, num_listed: int, lonely: pd.DataFrame) -> dict[str, Any]:
    rows = manifest.rows
    train = manifest.train()
    per_place = train.groupby("place_id").size() if len(train) else pd.Series(dtype=int)
    warnings = problems[problems["severity"] == "warning"]["problem"]
    statistics: dict[str, Any] = {
        "num_images": int(rows["image"].nunique()),
        "num_bytes": int(rows.drop_duplicates("image")["num_bytes"].sum()),
        "num_left_out": num_listed - len(rows),
        "num_leaked": int(warnings.str.startswith("leakage").sum()),
        "num_wide_places": int(warnings.str.startswith("images of one place far apart").sum()),
        "train": {
            "num_images": len(train),
            "num_places": len(per_place),
            "images_per_place_min": int(per_place.min()) if len(per_place) else 0,
            "images_per_place_median": float(per_place.median()) if len(per_place) else 0.0,
            "images_per_place_max": int(per_place.max()) if len(per_place) else 0,
        },
    }
    if "city" in train and len(train):
        cities = train.groupby("city").agg(num_images=("image", "size"), num_places=("place_id", "nunique"))
        statistics["cities"] = cities.to_dict("index")
    statistics["sets"] = {}
    for set_name in manifest.set_names():
        statistics["sets"][set_name] = {
            "num_database": len(manifest.part(set_name, DATABASE)),
            "num_queries": len(manifest.part(set_name, QUERY)),
            "num_queries_without_positives": int((lonely["set"] == set_name).sum()),
        }
    if "sources" in manifest.notes:
        statistics["sources"] = manifest.notes["sources"]
    return statistics
