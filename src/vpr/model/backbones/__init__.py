"""Backbones, which turn images into a feature map. Each family has a file that registers its networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vpr.model.backbones.base import BACKBONES, Backbone
from vpr.model.spec import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["BACKBONES", "Backbone", "build_backbone", "normalisation_of"]

RGB = tuple[float, float, float]


def build_backbone(name: str, weights: str | None, **options: Any) -> Backbone:
    """Build a backbone that maps ``(B, 3, H, W)`` to ``(B, out_channels, h, w)``.

    Args:
        name: Key of ``BACKBONES``.
        weights: ``None`` for random weights, ``"imagenet"``, or the path of a state dict.
        options: Options of the backbone.
    """
    backbone: Backbone = BACKBONES.build(name, options, weights=weights)
    return backbone


def normalisation_of(name: str, options: Mapping[str, Any]) -> tuple[RGB, RGB]:
    """Return the mean and standard deviation of colours that the backbone's published weights were trained with."""
    stated = BACKBONES[name].facts.get("normalisation", (IMAGENET_MEAN, IMAGENET_STD))
    found: tuple[RGB, RGB] = stated(options) if callable(stated) else stated
    return found
