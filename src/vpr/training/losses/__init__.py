"""Losses: descriptors and labels -> a number to minimise."""

from __future__ import annotations

from typing import Any

from torch import nn

from vpr.training.losses.base import LOSSES

__all__ = ["LOSSES", "build_loss"]


def build_loss(name: str, descriptor_dim: int, num_places: int, **options: Any) -> nn.Module:
    """A loss, called as ``loss(descriptors, labels, mined)``.

    Args:
        name: a key of ``LOSSES``.
        descriptor_dim, num_places: size of the descriptors and number of training places, for losses that learn a
            weight for each place.
        options: the loss's own.
    """
    given = {"num_classes": num_places, "embedding_size": descriptor_dim, "descriptors_dim": descriptor_dim}
    loss: nn.Module = LOSSES.build(name, options, **given)
    return loss
