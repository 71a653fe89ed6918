"""Losses, which turn descriptors and labels into a number to minimise."""

from __future__ import annotations

from typing import Any

from torch import nn

from vpr.config.errors import UserError
from vpr.training.losses.base import LOSSES

_ABOVE_ZERO = {"temperature", "scale", "softmax_scale", "anneal"}  # of any loss; others would train without a word
__all__ = ["LOSSES", "build_loss"]


def build_loss(name: str, descriptor_dim: int, num_places: int, **options: Any) -> nn.Module:
    """Build a loss, which is called as ``loss(descriptors, labels, mined)``.

    Args:
        name: Key of ``LOSSES``.
        descriptor_dim, num_places: Size of the descriptors and number of training places, for losses that learn weights
            for each place.
        options: Options of the loss.

    Raises:
        UserError: for an unknown name, or an option that is unknown or out of range.
    """
    for option in _ABOVE_ZERO & set(options):
        value = options[option]
        if isinstance(value, int | float) and value <= 0:
            raise UserError(f"loss {name}: {option} is {value}; expected a number above 0")
    given = {"num_classes": num_places, "embedding_size": descriptor_dim, "descriptors_dim": descriptor_dim}
    loss: nn.Module = LOSSES.build(name, options, **given)
    return loss
