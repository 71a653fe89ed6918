"""The dataset adapters: each fetches or makes images and lists them; the table names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vpr.components import lookup
from vpr.datasets.manifest import Manifest
from vpr.params import SourceParams

Adapter = Callable[[Any, Mapping[str, SourceParams], Path], Manifest]


def _synthetic(params: Any, *_: Any) -> Manifest:
    from vpr.datasets import synthetic  # numba takes a second to import

    return synthetic.obtain(params)


def _custom(params: Any, *_: Any) -> Manifest:
    from vpr.datasets import custom

    return custom.obtain(params)


def _collection(name: str, params: Any, sources: Mapping[str, SourceParams], known_hashes: Path) -> Manifest:
    from vpr.datasets import collection

    return collection.obtain(name, params, sources, known_hashes)


DATASETS: dict[str, Adapter] = {
    "synthetic": _synthetic,
    "custom": _custom,
    "gsv_xs": partial(_collection, "gsv_xs"),
    "gsv_cities": partial(_collection, "gsv_cities"),
}


def obtain(name: str, params: Any, sources: Mapping[str, SourceParams], known_hashes: Path) -> Manifest:
    """Fetch or make what is missing of a dataset, and list all of it.

    Args:
        sources: published sets, by name.
        known_hashes: see ``vpr.datasets.download.fetch``.
    """
    listing: Manifest = lookup("dataset", DATASETS, name)(params, sources, known_hashes)
    return listing
