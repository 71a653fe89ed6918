"""What every loss has in common.

A loss is a module, called as ``loss(descriptors, labels, mined)`` with descriptors ``(N, D)`` of unit norm and place
labels ``(N,)``, that returns the number to minimise. ``mined`` is what the miner picked (three index tensors for
triplets, four for pairs) or is left out. A loss that learns a weight for each place takes ``num_classes`` and
``embedding_size``; all other arguments are options, and it raises ``ValueError`` for one that is out of range.

To add a loss, register it with two facts: ``takes_miner`` is false for a loss that compares all images of a batch by
its definition; ``takes_memory`` is true for one that compares pairs of descriptors, of which the second may come from
an earlier batch (it is then called with the arguments ``ref_emb`` and ``ref_labels`` of pytorch-metric-learning too).
"""

from __future__ import annotations

from vpr.config.registry import Registry

LOSSES = Registry("loss", "vpr.training.losses")
