"""Losses, which turn descriptors and labels into a number to minimise."""

from __future__ import annotations

from typing import Any

from torch import nn

from vpr.training.losses.base import LOSSES

__all__ = ["LOSSES", "build_loss"]


def build_loss(name: str, descriptor_dim: int, num_places: int, **options: Any) -> nn.Module:
    """Build a loss, which is called as ``loss(descriptors, labels, mined)``.

    Args:
        name: Key of ``LOSSES``.
        descriptor_dim, num_places: Size of the descriptors and number of training places, for losses that learn weights
            for each place.
        options: Options of the loss.
    """
    given = {"num_classes": num_places, "embedding_size": descriptor_dim, "descriptors_dim": descriptor_dim}
    loss: nn.Module = LOSSES.build(name, options, **given)
    return loss
