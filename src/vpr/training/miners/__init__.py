"""Miners, which pick the pairs or triplets of a batch for the loss."""

from __future__ import annotations

from typing import Any

from vpr.training.miners.base import MINERS

__all__ = ["MINERS", "build_miner"]


def build_miner(name: str, **options: Any) -> Any:
    """Build a miner, which is called as ``miner(descriptors, labels)``; ``None`` for the name ``none``.

    Args:
        name: Key of ``MINERS``.
        options: Options of the miner.
    """
    return MINERS.build(name, options)
