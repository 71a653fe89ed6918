"""Aggregators, which turn a feature map into a descriptor. Each method has a file that registers it."""

from __future__ import annotations

from typing import Any

from vpr.model.aggregators.base import AGGREGATORS, Aggregator

__all__ = ["AGGREGATORS", "Aggregator", "build_aggregator"]


def build_aggregator(name: str, in_channels: int, map_size: tuple[int, int], **options: Any) -> Aggregator:
    """Build an aggregator that maps ``(B, in_channels, *map_size)`` to descriptors of unit norm.

    Args:
        name: Key of ``AGGREGATORS``.
        in_channels, map_size: Channels, and height and width, of the backbone's feature map.
        options: Options of the aggregator.
    """
    aggregator: Aggregator = AGGREGATORS.build(name, options, in_channels=in_channels, map_size=map_size)
    return aggregator
