"""Check a listing against the files on the disk, and turn it into a manifest.

A row with an *error* cannot be used; a row with a *warning* can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from vpr.config.errors import UserError
from vpr.data.coordinates import MAX_BAND_DEG, fits_band, is_zone, metres_apart, to_degrees
from vpr.data.manifest import DATABASE, KEY, QUERY, TRAIN, VERIFIED_COLUMNS, Manifest
from vpr.data.positions import Positions
from vpr.retrieval.positives import positives_of
from vpr.verification.counts import count_differences, sound_counts
from vpr.verification.likeness import cautions, place_likeness, same_drive
from vpr.verification.read_files import read_all_files

MAX_DISAGREEMENT_M = 2.0  # between a name's UTM coordinates and its degrees, which have 5 decimals
MAX_PLACE_SPAN_M = 50.0
_PROBLEM_COLUMNS = ["severity", "role", "set", "image", "problem"]


@dataclass(frozen=True)
class Verified:
    """A checked dataset.

    Attributes:
        manifest: Rows without errors, with size and hash.
        problems: Table ``severity, role, set, image, problem`` of all errors and warnings.
        differences: Differences between the content of sources and the expected one, in words.
        statistics: Counts for ``metrics/dataset.json``.
    """

    manifest: Manifest
    problems: pd.DataFrame
    differences: list[str]
    statistics: dict[str, Any]


class _Problems:
    """Problems of rows, in the order in which they were found."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows
        self.sound = np.ones(len(rows), dtype=bool)
        self.found: list[pd.DataFrame] = []

    def add(self, severity: Literal["error", "warning"], mask: Any, problem: Any) -> None:
        """Add a problem of the rows in ``mask``, with one text for all, or one for each row of the table."""
        mask = np.asarray(mask, dtype=bool)
        if mask.any():
            bad = self.rows.loc[mask, ["role", "set", "image"]].copy()
            bad["problem"] = problem if isinstance(problem, str) else np.asarray(problem, dtype=object)[mask]
            bad["severity"] = severity
            self.found.append(bad[_PROBLEM_COLUMNS])
        if severity == "error":
            self.sound &= ~mask

    def table(self) -> pd.DataFrame:
        """Return all problems, errors first."""
        if not self.found:
            return pd.DataFrame(columns=_PROBLEM_COLUMNS)
        return pd.concat(self.found, ignore_index=True).sort_values("severity", kind="stable", ignore_index=True)


def verify(
    listing: Manifest,
    radius_m: float,
    num_workers: int | None = None,
    queries_without_positives: Literal["keep", "leave_out"] = "keep",
    engine: str = "local",
) -> Verified:
    """Read every image of a listing, and check names, coordinates, positives, counts and duplicates.

    Files with the size and time of an earlier run are not read again, so that an interrupted run continues.

    Args:
        listing: Rows to check.
        radius_m: Largest distance of a positive, in metres.
        num_workers: Number of processes; ``None`` for all cores.
        queries_without_positives: Keep these queries, which count as not found, or leave them out.
        engine: Engine that reads the files, ``local`` or ``ray``.
    """
    rows = listing.rows.reset_index(drop=True)
    problems = _Problems(rows)
    problems.add("error", rows.duplicated(KEY), "listed twice with the same role")
    unsafe = rows["image"].map(lambda image: image.startswith("/") or ".." in image.split("/")).to_numpy(dtype=bool)
    problems.add("error", unsafe, "its path leaves the dataset's folder; give paths relative to it, or set root")
    nameless = rows["image"].str.contains("\0", regex=False).to_numpy(dtype=bool)
    problems.add("error", nameless, "its path holds a NUL character, which no file name may contain")
    if "problem" in rows:
        problems.add("error", rows["problem"] != "", rows["problem"])
    _check_coordinates(rows, problems)
    train = (rows["role"] == TRAIN).to_numpy()
    homeless = train & (rows["place_id"] == "").to_numpy() & problems.sound
    problems.add("error", homeless, "a training image without a place id")
    files = read_all_files(listing.folder, sorted(set(rows["image"][~unsafe & ~nameless])), num_workers, engine)
    table = rows[["image"]].merge(files, on="image", how="left")
    broken = table["problem"].astype(object).fillna("").to_numpy(dtype=object)
    problems.add("error", (broken != "") & ~unsafe & ~nameless, broken)
    for column, dtype in VERIFIED_COLUMNS.items():
        rows[column] = table[column].astype(object).fillna(0 if dtype == "int64" else "").astype(dtype)
    _check_duplicates(rows, problems)
    _check_spans(rows, problems)
    lonely = _without_positives(rows, problems.sound, radius_m)
    leave_out = queries_without_positives == "leave_out"
    problems.add("warning", lonely, f"a query without any positive in its database{', left out' if leave_out else ''}")
    if leave_out:
        problems.sound &= ~lonely
    sources = sound_counts(listing.metadata.get("sources", {}), rows, problems.sound | lonely)
    differences = count_differences(sources)
    kept = rows[problems.sound].drop(columns="problem", errors="ignore").reset_index(drop=True)
    given = listing.metadata | ({"sources": sources} if sources else {})
    manifest = Manifest(listing.name, listing.root, kept, given)
    table = problems.table()
    statistics = _statistics(manifest, table, len(rows), rows[problems.sound & lonely])
    likeness = place_likeness(manifest.folder, manifest.train())
    if likeness is not None:
        statistics["train"]["place_likeness"] = likeness
    shares = {
        name: same_drive(manifest.part(name, QUERY), manifest.part(name, DATABASE)) for name in manifest.set_names()
    }
    if any(share is not None for share in shares.values()):
        statistics["same_drive"] = {name: share for name, share in shares.items() if share is not None}
    statistics["cautions"] = cautions(statistics)
    return Verified(manifest, table, differences, statistics)


def check_sets(manifest: Manifest, set_names: Sequence[str]) -> None:
    """Refuse evaluation sets that do not exist, or have no database or no queries."""
    for name in set_names:
        for part, role in (("database", DATABASE), ("queries", QUERY)):
            try:
                rows = manifest.part(name, role)
            except UserError as error:
                raise UserError(f"params.yaml: eval_sets and val_set: {error}") from None
            if rows.empty:
                raise UserError(
                    f"params.yaml: evaluation set {name!r} has no {part}; add some, or remove "
                    "the set from eval_sets and val_set"
                )


def _check_coordinates(rows: pd.DataFrame, problems: _Problems) -> None:
    east, north = rows["utm_east"].to_numpy(), rows["utm_north"].to_numpy()
    problems.add("error", np.isnan(east) != np.isnan(north), "only one of utm_east and utm_north is given")
    # Without a zone they are metres on another map, such as those of Nordland and AmsterTime.
    on_grid = (rows["utm_zone"] != "").to_numpy()
    outside = (east < 100_000) | (east > 900_000) | (north < 0) | (north > 10_000_000)
    zones = {name: is_zone(name) for name in rows["utm_zone"].unique()}
    known_zone = rows["utm_zone"].map(zones).to_numpy(dtype=bool)
    words = "utm_zone is not a zone: '" + rows["utm_zone"].astype(str) + "'; expected a zone such as 32T"
    problems.add("error", on_grid & ~known_zone, words)
    infinite = np.isinf(east) | np.isinf(north)
    problems.add("error", (outside & on_grid) | infinite, "utm_east or utm_north is not a UTM coordinate in metres")
    # If some images of a set have coordinates, all need them.
    known = np.isfinite(east) & np.isfinite(north)
    in_set = np.array(rows["set"] != "")
    if "positive_frames" in rows:  # queries with listed positives need no position
        in_set &= ~rows["set"].isin(set(rows.loc[rows["positive_frames"].fillna("") != "", "set"])).to_numpy()
    some = rows.groupby(["role", "set"])["utm_east"].transform("count").to_numpy() > 0
    missing = in_set & some & np.isnan(east) & np.isnan(north) & problems.sound
    problems.add("error", missing, "no coordinates, although other images of its set have them")
    at = np.flatnonzero(on_grid & known_zone & known & ~outside)
    zones_at = rows["utm_zone"].iloc[at].to_list()
    at_degrees = to_degrees(east[at], north[at], zones_at)
    elsewhere = np.zeros(len(rows), dtype=bool)
    elsewhere[at] = ~fits_band(zones_at, at_degrees[0], MAX_BAND_DEG)
    words_of_band = "utm_zone: utm_north is not in the band of '" + rows["utm_zone"].astype(str) + "'; correct the zone"
    problems.add("error", elsewhere, words_of_band)
    zoned = rows["set"].isin(set(rows.loc[on_grid & known, "set"])).to_numpy()
    problems.add(
        "error",
        in_set & zoned & known & ~on_grid,
        "no utm_zone, although other images of its set have one; set utm_zone",
    )
    if {"lat", "lon"} <= set(rows):
        lat, lon = (pd.to_numeric(rows[c], errors="coerce").to_numpy(dtype=float) for c in ("lat", "lon"))
        both = known & np.isfinite(lat) & np.isfinite(lon)
        at = np.flatnonzero(both & ~outside)
        from_utm = to_degrees(east[at], north[at], rows["utm_zone"].iloc[at].to_list())
        problems.add("error", both & ~on_grid, words)
        apart = np.zeros(len(rows))
        apart[at] = np.nan_to_num(metres_apart(lat[at], lon[at], *from_utm))
        texts = [f"utm and lat, lon: {m:,.1f} m apart" if m > MAX_DISAGREEMENT_M else "" for m in apart]
        problems.add("error", apart > MAX_DISAGREEMENT_M, texts)


def _check_duplicates(rows: pd.DataFrame, problems: _Problems) -> None:
    """Find equal files in training and evaluation, in several places, or in queries and database."""
    sound = problems.sound
    train = (rows["role"] == TRAIN).to_numpy()
    first = rows[sound & train].drop_duplicates("sha256").set_index("sha256")["image"]
    leaked = sound & ~train & rows["sha256"].isin(first.index).to_numpy()
    seen = rows["sha256"].map(first).astype(object).fillna("")
    problems.add("warning", leaked, "leakage: the same content as a training image: " + seen)
    own = rows[sound & train]
    places = own.groupby("sha256")["place_id"].transform("nunique")
    twice = np.zeros(len(rows), dtype=bool)
    twice[own.index[places > 1]] = True
    words = "the same content in several training places: " + rows["place_id"].astype(str)
    problems.add("warning", twice, words)
    database = rows[sound & (rows["role"] == DATABASE).to_numpy()].drop_duplicates(["set", "sha256"])
    queries = rows[sound & (rows["role"] == QUERY).to_numpy()]
    same = queries[["set", "sha256"]].reset_index().merge(database[["set", "sha256", "image"]], on=["set", "sha256"])
    mask, words = np.zeros(len(rows), dtype=bool), np.full(len(rows), "", dtype=object)
    mask[same["index"]] = True
    words[same["index"]] = "the same content as an image of its database: " + same["image"]
    problems.add("warning", mask, words)


def _check_spans(rows: pd.DataFrame, problems: _Problems) -> None:
    """Find training places whose images are far apart."""
    here = rows[problems.sound & (rows["role"] == TRAIN).to_numpy() & rows["utm_east"].notna().to_numpy()]
    if here.empty:
        return
    groups = here.assign(grid=Positions.of(here).grids).groupby("place_id")
    box = groups[["utm_east", "utm_north"]].max() - groups[["utm_east", "utm_north"]].min()
    far = (np.hypot(box["utm_east"], box["utm_north"]) > MAX_PLACE_SPAN_M) | (groups["grid"].nunique() > 1)
    wide = set(box.index[far])
    mask, words = np.zeros(len(rows), dtype=bool), np.full(len(rows), "", dtype=object)
    for place, group in here[here["place_id"].isin(wide)].groupby("place_id"):
        span_m = _span_m(group)
        if span_m > MAX_PLACE_SPAN_M:
            mask[group.index[0]] = True
            words[group.index[0]] = f"images of one place far apart: {place} spans {span_m:,.0f} m"
    problems.add("warning", mask, words)


def _span_m(rows: pd.DataFrame) -> float:
    """Return the largest distance between two images, in metres."""
    positions = Positions.of(rows)
    one_grid = len(np.unique(positions.grids)) == 1
    points = positions.utm if one_grid else positions.geocentric
    points = points[np.isfinite(points).all(axis=1)]  # metres on a map are nowhere on the Earth
    if len(points) < 2:
        return 0.0
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


def kind_of(problems: pd.Series) -> pd.Series:
    """Return problems without the values in them, so that equal kinds can be counted."""
    return problems.str.replace(r":.*", "", regex=True).str.replace(r"'[^']*'", "'...'", regex=True)


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
    if "sources" in manifest.metadata:
        statistics["sources"] = manifest.metadata["sources"]
    return statistics
