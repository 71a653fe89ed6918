"""The table of losses.

A loss is a module that is called as ``loss(descriptors, labels, mined)`` with descriptors ``(N, D)`` of unit norm and
place labels ``(N,)``, and returns the number to minimise. ``mined`` holds the miner's choice (three index tensors for
triplets, four for pairs) or is left out. A loss that learns weights for each place takes ``num_classes`` and
``embedding_size``; all other arguments are options, and it raises ``ValueError`` for an option that is out of range.

To add a loss, register it with two facts: ``takes_miner`` is false for a loss that compares all images of a batch by
definition. ``takes_memory`` is true for a loss that compares pairs of descriptors, the second of which may come from an
earlier batch; such a loss also takes the arguments ``ref_emb`` and ``ref_labels`` of pytorch-metric-learning.
"""

from __future__ import annotations

from vpr.config.registry import Registry

LOSSES = Registry("loss", "vpr.training.losses")
