"""Backbones: images -> feature map. One file for each family, which registers its networks."""

from __future__ import annotations

from typing import Any

from vpr.model.backbones.base import BACKBONES, Backbone

__all__ = ["BACKBONES", "Backbone", "build_backbone"]


def build_backbone(name: str, weights: str | None, **options: Any) -> Backbone:
    """A backbone with ``out_channels``, mapping ``(B, 3, H, W)`` to ``(B, out_channels, h, w)``.

    Args:
        name: a key of ``BACKBONES``.
        weights: ``None`` for random weights, ``"imagenet"``, or the path of a state dict.
        options: the backbone's own.
    """
    backbone: Backbone = BACKBONES.build(name, options, weights=weights)
    return backbone
