"""Published sets put together: fetch each source, list its images, filter the training places."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from vpr.datasets.download import fetch, redacted
from vpr.datasets.layouts import LAYOUTS
from vpr.datasets.manifest import DATABASE, QUERY, TRAIN, Manifest, make_manifest
from vpr.params import PARAMS_FILE, CollectionParams, SourceParams
from vpr.project import resolve_root


def obtain(name: str, params: CollectionParams, sources: Mapping[str, SourceParams], known_hashes: Path) -> Manifest:
    """Fetch what is missing of the sources, and list their images.

    Args:
        name: of the dataset.
        sources: of ``params.yaml``.
        known_hashes: see ``vpr.datasets.download.fetch``.

    Raises:
        OSError: if a source can't be had.
        ValueError: if a source is not laid out as ``params.yaml`` says, or a filter leaves nothing.
    """
    training: list[pd.DataFrame] = []
    evaluation: list[pd.DataFrame] = []
    notes: dict[str, Any] = {}
    folders: dict[str, Path] = {}
    uses = [(source, TRAIN, "") for source in params.train]
    uses += [(source, "", set_name) for set_name, source in params.eval_sets.items()]
    for source_name, role, set_name in uses:
        source = sources[source_name]
        where = f"{PARAMS_FILE}: sources.{source_name}"
        assert source.url is not None, "the check stage refuses a source without a URL"
        fetched = fetch(where, source.url, source.sha256, known_hashes)
        folder, rows = LAYOUTS[source.layout](where, source_name, fetched.folder, source)
        if rows.empty:
            raise FileNotFoundError(f"{where}: {folder} holds no images in the layout {source.layout}")
        folders[source_name] = folder
        rows["image"] = f"{source_name}/" + rows["image"]
        rows["source"], rows["set"] = source_name, set_name
        notes[source_name] = {
            "url": redacted(source.url),
            "sha256": fetched.sha256,
            "expected": dict(source.expected),
            "found": counts(rows),
        }
        (training if role == TRAIN else evaluation).append(rows)
    if training:
        training = [filtered(pd.concat(training, ignore_index=True), params, name)]
    options = {key: value for key, value in asdict(params).items() if key != "eval_sets"}
    rows = pd.concat([*training, *evaluation], ignore_index=True)
    return make_manifest(name, link_all(folders), rows, {"options": options, "sources": notes})


def counts(rows: pd.DataFrame) -> dict[str, Any]:
    """What a source holds, before anything is filtered."""
    if (rows["role"] == TRAIN).all():
        places = int(rows.loc[rows["place_id"] != "", "place_id"].nunique())
        cities = sorted(set(rows["city"]))
        return {"images": len(rows), "places": places, "cities": len(cities), "city_names": cities}
    return {"database": int((rows["role"] == DATABASE).sum()), "queries": int((rows["role"] == QUERY).sum())}


def filtered(rows: pd.DataFrame, params: CollectionParams, name: str) -> pd.DataFrame:
    """The training images that the filters leave.

    Which places make up a share depends on the seed and the place alone: another city or a larger share keeps those
    that were chosen. Rows with a problem stay, for the verify stage to report.
    """
    bad = rows["problem"] != ""
    rows, wrong = rows[~bad], rows[bad]
    where = f"{PARAMS_FILE}: datasets.{name}"
    if params.cities is not None:
        wanted = {city.lower() for city in params.cities}
        unknown = sorted(wanted - set(rows["city"]))
        if unknown:
            raise ValueError(f"{where}.cities names {unknown}; choose from {sorted(set(rows['city']))}")
        rows = rows[rows["city"].isin(wanted)]
    if params.dates is not None and len(rows):
        month = pd.to_numeric(rows["timestamp"].str[:6], errors="coerce")
        rows = rows[month.between(*params.dates)]
    if params.share_of_places < 1:
        keep: set[str] = set()
        for _, places in rows.groupby("city")["place_id"]:
            ranked = sorted(
                places.unique(), key=lambda place: hashlib.sha256(f"{params.seed}/{place}".encode()).digest()
            )
            keep |= set(ranked[: max(1, round(params.share_of_places * len(ranked)))])
        rows = rows[rows["place_id"].isin(keep)]
    if rows.empty and wrong.empty:
        raise ValueError(f"{where}: cities, dates and share_of_places leave no training image")
    return pd.concat([rows, wrong], ignore_index=True)


def link_all(folders: Mapping[str, Path]) -> str:
    """A root with a link to each source's folder, under the same name wherever it lies; links are never changed."""
    digest = hashlib.sha256(json.dumps({k: str(v) for k, v in sorted(folders.items())}).encode()).hexdigest()[:10]
    root = f"data:links/{digest}"
    for name, folder in folders.items():
        link = resolve_root(root) / name
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            part = link.with_name(f".{name}.{os.getpid()}")
            part.symlink_to(folder, target_is_directory=True)
            part.replace(link)
    return root
