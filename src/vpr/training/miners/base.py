"""The table of miners.

A miner is called as ``miner(descriptors, labels)`` with descriptors ``(N, D)`` and place labels ``(N,)``, and returns
index tensors: three for triplets (anchors, positives, negatives), four for pairs (anchors and positives, anchors and
negatives). With a memory, it also takes the descriptors and labels to compare with. All of its arguments are options,
and it raises ``ValueError`` for an option that is out of range.
"""

from __future__ import annotations

from vpr.config.registry import Registry

MINERS = Registry("miner", "vpr.training.miners")
