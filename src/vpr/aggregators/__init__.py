"""Aggregators: feature map -> descriptor. One file per method; the table below names them."""

from __future__ import annotations

from typing import Any

from torch import nn

from vpr.aggregators.avg import AVG
from vpr.aggregators.boq import BoQ
from vpr.aggregators.convap import ConvAP
from vpr.aggregators.cosplace import CosPlace
from vpr.aggregators.gem import GeM
from vpr.aggregators.max import MAX
from vpr.aggregators.mixvpr import MixVPR
from vpr.aggregators.netvlad import NetVLAD
from vpr.aggregators.salad import SALAD
from vpr.components import call_with_options, lookup

AGGREGATORS: dict[str, type[nn.Module]] = {
    "avg": AVG,
    "boq": BoQ,
    "convap": ConvAP,
    "cosplace": CosPlace,
    "gem": GeM,
    "max": MAX,
    "mixvpr": MixVPR,
    "netvlad": NetVLAD,
    "salad": SALAD,
}


def build_aggregator(name: str, in_channels: int, map_size: tuple[int, int], **options: Any) -> nn.Module:
    """An aggregator with ``descriptor_dim``, mapping ``(B, in_channels, *map_size)`` to unit descriptors.

    Args:
        name: a key of ``AGGREGATORS``.
        in_channels, map_size: channels, and height and width, of the backbone's feature map.
        options: the aggregator's own.
    """
    build = lookup("aggregator", AGGREGATORS, name)
    aggregator: nn.Module = call_with_options(
        "aggregator", name, build, options, in_channels=in_channels, map_size=map_size
    )
    return aggregator
