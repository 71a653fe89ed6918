"""Backbones: images -> feature map. One file per family; the table below names them."""

from __future__ import annotations

from typing import Any

from vpr.backbones.dinov2 import DINOV2
from vpr.backbones.staged import Backbone
from vpr.backbones.timm_network import timm_network
from vpr.backbones.torchvision_networks import TORCHVISION
from vpr.components import call_with_options, lookup

BACKBONES = {**TORCHVISION, **DINOV2, "timm": timm_network}


def build_backbone(name: str, weights: str | None, **options: Any) -> Backbone:
    """A backbone with ``out_channels``, mapping ``(B, 3, H, W)`` to ``(B, out_channels, h, w)``.

    Args:
        name: a key of ``BACKBONES``.
        weights: ``None`` for random weights, ``"imagenet"``, or the path of a state dict.
        options: the backbone's own.
    """
    build = lookup("backbone", BACKBONES, name)
    backbone: Backbone = call_with_options("backbone", name, build, options, weights=weights)
    return backbone
