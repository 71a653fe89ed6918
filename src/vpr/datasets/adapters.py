"""The dataset adapters: each fetches or makes images and lists them; the table names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vpr.components import lookup
from vpr.datasets.manifest import Manifest


def _synthetic(params: Any) -> Manifest:
    from vpr.datasets import synthetic  # numba takes a second to import

    return synthetic.obtain(params)


def _custom(params: Any) -> Manifest:
    from vpr.datasets import custom

    return custom.obtain(params)


DATASETS: dict[str, Callable[[Any], Manifest]] = {"synthetic": _synthetic, "custom": _custom}


def obtain(name: str, params: Any) -> Manifest:
    """Fetch or make what is missing of a dataset, and list all of it."""
    listing: Manifest = lookup("dataset", DATASETS, name)(params)
    return listing
