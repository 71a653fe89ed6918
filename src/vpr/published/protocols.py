"""One model on one set under every protocol in use, with one extraction: ``vpr protocols MODEL/SET``.

Protocols of a set share its images. They differ in which images are queries, in what counts as a positive, and in
whether queries without any positive count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vpr.config.did_you_mean import did_you_mean
from vpr.config.errors import UserError
from vpr.data.manifest import DATABASE, QUERY, Manifest
from vpr.descriptors.trained_model import Model
from vpr.published.reproduction import read_published
from vpr.retrieval.positives import positives_of
from vpr.retrieval.recall import recall_at
from vpr.retrieval.search import search
from vpr.sources.base import Context
from vpr.sources.catalogue import EVALUATION, SourceParams
from vpr.sources.collection import CollectionParams, collect

RECALLS = (1, 5)
_ROLES = {DATABASE: "database", QUERY: "queries"}


@dataclass(frozen=True)
class ProtocolResult:
    """Recalls under one protocol.

    Attributes:
        set: Name of the set in ``data/sources.yaml``.
        protocol: The protocol in words.
        num_queries: Number of queries.
        num_without: Number of queries without any positive.
        recalls: Recall@N; queries without a positive count as not found, as in published recalls.
        recalls_without: The same over the queries that have a positive; ``None`` if all have one.
        published: Published recall@1 and recall@5 of the model, in percent; ``None`` where there is none.
    """

    set: str
    protocol: str
    num_queries: int
    num_without: int
    recalls: dict[int, float]
    recalls_without: dict[int, float] | None
    published: tuple[float | None, float | None]


def protocols_of(name: str, sources: Mapping[str, SourceParams]) -> dict[str, SourceParams]:
    """Return the sets with the images of a set, the set itself first. A set whose ``url`` is null gets its address.

    Raises:
        UserError: if there is no such evaluation set, or its images have to be asked for.
    """
    evaluated = {key: source for key, source in sources.items() if source.layout in EVALUATION}
    if name not in evaluated:
        raise UserError(f"{name!r} is not an evaluation set of data/sources.yaml{did_you_mean(name, evaluated)}")
    own = evaluated[name]
    if own.url is None:
        raise UserError(
            f"data/sources.yaml: {name}.url is null: get the images as docs/datasets.md says, and set the url to "
            "file:// followed by the path of your copy"
        )
    found = {name: own}
    for key, source in evaluated.items():
        alike = (source.layout, source.folder, {source.database, source.queries}) == (
            own.layout, own.folder, {own.database, own.queries},
        )  # fmt: skip
        same_images = source.url == own.url or (source.url is None and _stem(key) == _stem(name))
        if alike and same_images:
            found.setdefault(key, source.model_copy(update={"url": own.url}))
    return found


def _stem(name: str) -> str:
    """Return ``msls_val`` for ``msls_val_740``, and the name itself if no number follows."""
    stem, _, last = name.rpartition("_")
    return stem if last[:1].isdigit() else name


def compare_protocols(
    name: str, model: Model, model_name: str, sources: Mapping[str, SourceParams], context: Context, radius_m: float
) -> list[ProtocolResult]:
    """Describe the images of a set once, and return the recalls under each of its protocols.

    Args:
        name: Name of the set.
        model: Model to evaluate.
        model_name: Name whose published recalls are looked up.
        sources: The published sets.
        context: Facts about the project.
        radius_m: Largest distance of a positive, in metres.

    Raises:
        UserError: if the images cannot be fetched or used.
    """
    chosen = protocols_of(name, sources)
    listing = _listing(chosen, name, context)
    wrong = listing.rows[listing.rows["problem"].fillna("") != ""]
    if len(wrong):
        raise UserError(
            f"{len(wrong)} images of {name} cannot be used, {wrong['image'].iloc[0]} first: {wrong['problem'].iloc[0]}"
        )
    files = [str((listing.folder / image).resolve()) for image in listing.rows["image"]]
    unique = sorted(set(files))
    print(f"{name}: describing {len(unique):,} images once for {len(chosen)} protocols")
    described = model.describe(model.images(Path("/"), unique), show_progress=True, num_workers=None)
    rows = listing.rows.assign(described=np.searchsorted(unique, files))
    published = {(row.model, row.set): row.recalls for row in read_published()}
    results = []
    for key, source in chosen.items():
        of_set = rows[rows["set"] == key]
        if of_set.empty:
            continue
        database, queries = (of_set[of_set["role"] == role].reset_index(drop=True) for role in (DATABASE, QUERY))
        positives = positives_of(database, queries, radius_m)
        if positives is None:
            continue
        ranking, _ = search(described[database["described"]], described[queries["described"]], max(RECALLS))
        has_one = np.array([len(near) > 0 for near in positives])
        without = None
        if has_one.any() and not has_one.all():
            without = recall_at(ranking[has_one], [positives[k] for k in np.flatnonzero(has_one)], RECALLS)
        results.append(
            ProtocolResult(
                key,
                source.protocol,
                len(queries),
                int((~has_one).sum()),
                recall_at(ranking, positives, RECALLS),
                without,
                published.get((model_name, key), (None, None)),
            )
        )
    return results


def _listing(chosen: Mapping[str, SourceParams], name: str, context: Context) -> Manifest:
    """List the images of each protocol; one that lacks a file of its own is left out with a line."""
    usable = dict(chosen)
    while True:
        params = CollectionParams(train=[], eval_sets={key: key for key in usable})
        try:
            listing = collect("protocols", params, usable, context)
        except UserError as error:
            lacking = next((key for key in usable if key != name and f": {key}." in str(error)), None)
            if lacking is None:
                raise
            print(f"without {lacking}: {error}")
            del usable[lacking]
            continue
        for key, source in usable.items():
            rows = listing.rows[listing.rows["set"] == key]
            for role, what in _ROLES.items():
                found, expected = int((rows["role"] == role).sum()), source.expected.get(what)
                if isinstance(expected, int) and expected != found:
                    print(f"{key} has {found:,} {what}, not {expected:,}, so its published recalls are of other images")
        return listing
