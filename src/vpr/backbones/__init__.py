"""Backbones: images -> feature map. One file per family; the table below names them."""

from __future__ import annotations

from typing import Any

from torch import nn

from vpr.backbones.resnet import resnet18
from vpr.components import call_with_options, lookup

BACKBONES = {"resnet18": resnet18}


def build_backbone(name: str, weights: str | None, **options: Any) -> nn.Module:
    """A backbone with ``out_channels``, mapping ``(B, 3, H, W)`` to ``(B, out_channels, h, w)``.

    Args:
        name: a key of ``BACKBONES``.
        weights: ``None`` for random weights, ``"imagenet"``, or the path of a state dict.
        options: the backbone's own.
    """
    build = lookup("backbone", BACKBONES, name)
    backbone: nn.Module = call_with_options("backbone", name, build, options, weights=weights)
    return backbone
