"""Combine published sets: fetch each source, list its images and filter the training places."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from vpr.config.atomic_files import atomic_write
from vpr.config.errors import UserError
from vpr.config.params import Options
from vpr.config.project import resolve_root
from vpr.data.manifest import DATABASE, QUERY, TRAIN, Manifest, make_manifest
from vpr.data.timestamps import plain_timestamp
from vpr.sources.base import DATASETS, Context, DatasetAdapter
from vpr.sources.catalogue import EVALUATION, SourceParams, load_sources
from vpr.sources.cells import CellParams, with_places
from vpr.sources.download import check_url, fetch, redacted
from vpr.sources.layouts import LAYOUTS


class CollectionParams(Options):
    """Published sets to train and evaluate on."""

    train: list[str] = Field(description="training sets of `data/sources.yaml`; several are joined")
    eval_sets: dict[str, str] = Field(
        description="sources of the names that the top-level `eval_sets` and `train.val_set` use"
    )
    cities: list[str] | None = Field(default=None, description="training cities to keep; `null` for all")
    dates: list[Annotated[int, Field(ge=100001, le=999912)]] | None = Field(
        default=None,
        title="null or [first, last] as YYYYMM",
        description="first and last month of the training images to keep, such as `[201501, 201912]`; `null` for all",
    )
    share_of_places: float = Field(default=1.0, gt=0, le=1, description="share of each city's training places to keep")
    seed: int = Field(default=1, ge=0, le=2**32 - 1, description="seed of the choice of these places")
    shares: dict[str, Annotated[float, Field(gt=0, le=1)]] | None = Field(
        default=None,
        description="share of each training source in a batch, such as `{gsv_cities: 0.5, msls_train: 0.5}`; `null` "
        "draws from all places alike",
    )
    places: CellParams | None = Field(
        default=None,
        description="how places are made from positions, for training sources of the layout `standard_train`",
    )


@DATASETS.register("gsv_xs", "[Ali-bey 2022](https://arxiv.org/abs/2210.10239)")
@DATASETS.register("gsv_cities", "[Ali-bey 2022](https://arxiv.org/abs/2210.10239)")
@DATASETS.register("ie_tower", "")
@DATASETS.register("gardens_point", "")
@DATASETS.register("benchmarks", "")
@DATASETS.register("unified", "")
class Collection(DatasetAdapter):
    """A dataset made of published sets."""

    Params = CollectionParams

    def check(self, params: CollectionParams, context: Context, where: str) -> None:
        sources = load_sources(context.catalogue)
        for key, names, training in (("train", params.train, True), ("eval_sets", params.eval_sets.values(), False)):
            fitting = sorted(s for s, source in sources.items() if (source.layout not in EVALUATION) == training)
            for source in names:
                if source not in fitting:
                    raise UserError(f"{where}.{key} names {source!r}; choose from the sources {fitting}")
        if params.shares is not None and (
            set(params.shares) != set(params.train) or abs(sum(params.shares.values()) - 1) > 1e-6
        ):
            raise UserError(
                f"{where}.shares is {params.shares}; expected null, or a share for each of {params.train} that sum to 1"
            )
        if params.dates is not None and (
            len(params.dates) != 2 or not 100001 <= params.dates[0] <= params.dates[1] <= 999912
        ):
            raise UserError(
                f"{where}.dates is {params.dates}; expected [first, last] as YYYYMM, such as [201501, 201912]"
            )
        unplaced = [source for source in params.train if sources[source].layout == "standard_train"]
        if unplaced and params.places is None:
            raise UserError(f"{where}.places is null, and {unplaced[0]} has no places of its own; set how to make them")
        named = [sources[source].expected.get("cities") for source in params.train]
        if params.cities is not None and all(isinstance(cs, list) and isinstance(cs[0], str) for cs in named):
            known = {str(city).lower() for cities in named if isinstance(cities, list) for city in cities}
            unknown = [city for city in params.cities if city.lower() not in known]
            if unknown:
                raise UserError(f"{where}.cities names {unknown}; choose from {sorted(known)}")

    def check_chosen(self, params: CollectionParams, context: Context, where: str, set_names: Sequence[str]) -> None:
        sources = load_sources(context.catalogue)
        for name in set_names:
            is_source = context.only_sets is not None and name in sources  # the source's own name is valid too
            if name not in params.eval_sets and not is_source:
                known = sorted({*params.eval_sets, *(sources if context.only_sets is not None else ())})
                raise UserError(f"{where}.eval_sets lacks {name!r}, which eval_sets or val_set names; it has {known}")
        for name in dict.fromkeys(source for source, _, _ in uses(params, context)):
            url = sources[name].url
            if url is None:
                raise UserError(
                    f"{context.catalogue}: {name}.url is null, because its owner has to be asked for it, see "
                    "docs/datasets.md; set the url to file:// followed by the path of your copy"
                )
            check_url(f"{context.catalogue}: {name}", url)

    def num_places(self, params: CollectionParams, context: Context) -> int | None:
        return _most("places", params, context)

    def num_images(self, params: CollectionParams, context: Context) -> int | None:
        return _most("images", params, context)

    def describe_sets(self, params: CollectionParams, set_names: Sequence[str]) -> str:
        return ", ".join(f"{name} is {params.eval_sets.get(name, name)}" for name in set_names)

    def prepare(self, params: CollectionParams, context: Context) -> Manifest:
        """Fetch missing sources and list their images.

        Raises:
            UserError: if a source cannot be fetched or has another layout, or if a filter leaves nothing.
        """
        sources = load_sources(context.catalogue)
        return collect(self.name, params, sources, context)


def _most(what: str, params: CollectionParams, context: Context) -> int | None:
    """Return the largest number of training images or places that the sources are expected to hold, if it is known."""
    sources = load_sources(context.catalogue)
    expected = [sources[name].expected.get(what) for name in params.train]
    most = [number[-1] if isinstance(number, list) else number for number in expected]
    return sum(int(number) for number in most if number is not None) if None not in most else None


def collect(name: str, params: CollectionParams, sources: Mapping[str, SourceParams], context: Context) -> Manifest:
    """Fetch missing sources and list their images; see ``Collection.prepare``."""
    training: list[pd.DataFrame] = []
    evaluation: list[pd.DataFrame] = []
    provenance: dict[str, Any] = {}
    folders: dict[str, Path] = {}
    for source_name, role, set_name in uses(params, context):
        source = sources[source_name]
        where = f"{context.catalogue}: {source_name}"
        assert source.url is not None, "the check stage refuses a source without a URL"
        fetched = fetch(where, source.url, source.sha256, context.known_hashes)
        folder, rows = LAYOUTS[source.layout](where, source_name, fetched.folder, source)
        if rows.empty:
            raise UserError(f"{where}: {folder} holds no images in the layout {source.layout}")
        folders[source_name] = folder
        if source.layout == "standard_train":
            rows = _from_positions(rows, params, source_name, f"params.yaml: datasets.{name}.images.places")
        rows["image"] = f"{source_name}/" + rows["image"]
        rows["source"], rows["set"] = source_name, set_name
        if role == TRAIN and params.shares is not None:
            rows["share"] = params.shares[source_name]
        if role != TRAIN and source.protocol:
            rows["protocol"] = source.protocol
        provenance[source_name] = {
            "url": redacted(source.url),
            "sha256": fetched.sha256,
            "expected": dict(source.expected),
            "found": counts(rows),
        }
        (training if role == TRAIN else evaluation).append(rows)
    if training:
        training = [filtered(pd.concat(training, ignore_index=True), params, name)]
    options = {key: value for key, value in params.model_dump().items() if key != "eval_sets"}
    rows = pd.concat([*training, *evaluation], ignore_index=True)
    return make_manifest(name, link_all(folders), rows, {"options": options, "sources": provenance})


def _from_positions(rows: pd.DataFrame, params: CollectionParams, source_name: str, where: str) -> pd.DataFrame:
    """Return the rows with places from their positions; rows with a problem are kept for the verify stage."""
    assert params.places is not None, "the check stage refuses such a source without them"
    sound = rows["problem"] == ""
    placed = with_places(rows[sound], params.places, f"{where}: {source_name}")
    placed["place_id"] = f"{source_name}/" + placed["place_id"]
    return pd.concat([placed, rows[~sound].assign(place_id="", group="")], ignore_index=True)


def uses(params: CollectionParams, context: Context) -> list[tuple[str, str, str]]:
    """List source, role and set of everything that is needed."""
    only = context.only_sets
    training = [(source, TRAIN, "") for source in params.train] if only is None else []
    if only is None:
        return training + [(source, "", name) for name, source in params.eval_sets.items()]
    return [(params.eval_sets.get(name, name), "", name) for name in only]


def counts(rows: pd.DataFrame) -> dict[str, Any]:
    """Count the content of a source before any filter."""
    if (rows["role"] == TRAIN).all():
        places = int(rows.loc[rows["place_id"] != "", "place_id"].nunique())
        cities = sorted(set(rows["city"]))
        return {"images": len(rows), "places": places, "cities": len(cities), "city_names": cities}
    return {"database": int((rows["role"] == DATABASE).sum()), "queries": int((rows["role"] == QUERY).sum())}


def filtered(rows: pd.DataFrame, params: CollectionParams, name: str) -> pd.DataFrame:
    """Return the training images that pass the filters.

    The choice of a share depends only on the seed and the place, so that another city or a larger share keeps the
    places that were chosen. Rows with a problem are kept for the verify stage.
    """
    bad = rows["problem"] != ""
    rows, wrong = rows[~bad], rows[bad]
    where = f"params.yaml: datasets.{name}.images"
    if params.cities is not None:
        wanted = {city.lower() for city in params.cities}
        unknown = sorted(wanted - set(rows["city"]))
        if unknown:
            raise UserError(f"{where}.cities names {unknown}; choose from {sorted(set(rows['city']))}")
        rows = rows[rows["city"].isin(wanted)]
    if params.dates is not None and len(rows):
        month = pd.to_numeric(rows["timestamp"].map(plain_timestamp).str[:6], errors="coerce")
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
        raise UserError(f"{where}: cities, dates and share_of_places leave no training image")
    return pd.concat([rows, wrong], ignore_index=True)


def link_all(folders: Mapping[str, Path]) -> str:
    """Return a root with a link to each source's folder. An existing link is never changed."""
    digest = hashlib.sha256(json.dumps({k: str(v) for k, v in sorted(folders.items())}).encode()).hexdigest()[:10]
    root = f"data:links/{digest}"
    for name, folder in folders.items():
        link = resolve_root(root) / name
        if not link.is_symlink():
            with atomic_write(link) as part:
                part.symlink_to(folder, target_is_directory=True)
    return root
