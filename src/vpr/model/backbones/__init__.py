"""Backbones: images -> feature map. One file for each family, which registers its networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vpr.model.backbones.base import BACKBONES, Backbone
from vpr.model.spec import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["BACKBONES", "Backbone", "build_backbone", "normalisation_of"]

RGB = tuple[float, float, float]


def build_backbone(name: str, weights: str | None, **options: Any) -> Backbone:
    """A backbone with ``out_channels``, mapping ``(B, 3, H, W)`` to ``(B, out_channels, h, w)``.

    Args:
        name: a key of ``BACKBONES``.
        weights: ``None`` for random weights, ``"imagenet"``, or the path of a state dict.
        options: the backbone's own.
    """
    backbone: Backbone = BACKBONES.build(name, options, weights=weights)
    return backbone


def normalisation_of(name: str, options: Mapping[str, Any]) -> tuple[RGB, RGB]:
    """Mean and deviation of the colours in [0, 1] that the backbone's published weights were trained with."""
    stated = BACKBONES[name].facts.get("normalisation", (IMAGENET_MEAN, IMAGENET_STD))
    found: tuple[RGB, RGB] = stated(options) if callable(stated) else stated
    return found
