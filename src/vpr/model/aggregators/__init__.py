"""Aggregators: feature map -> descriptor. One file for each method, which registers itself."""

from __future__ import annotations

from typing import Any

from vpr.model.aggregators.base import AGGREGATORS, Aggregator

__all__ = ["AGGREGATORS", "Aggregator", "build_aggregator"]


def build_aggregator(name: str, in_channels: int, map_size: tuple[int, int], **options: Any) -> Aggregator:
    """An aggregator with ``descriptor_dim``, mapping ``(B, in_channels, *map_size)`` to unit descriptors.

    Args:
        name: a key of ``AGGREGATORS``.
        in_channels, map_size: channels, and height and width, of the backbone's feature map.
        options: the aggregator's own.
    """
    aggregator: Aggregator = AGGREGATORS.build(name, options, in_channels=in_channels, map_size=map_size)
    return aggregator
