"""Miners: pick the pairs or triplets of a batch that the loss is computed from."""

from __future__ import annotations

from typing import Any

from vpr.training.miners.base import MINERS

__all__ = ["MINERS", "build_miner"]


def build_miner(name: str, **options: Any) -> Any:
    """A miner, called as ``miner(descriptors, labels)``; ``None`` for the name ``none``.

    Args:
        name: a key of ``MINERS``.
        options: the miner's own.
    """
    return MINERS.build(name, options)
