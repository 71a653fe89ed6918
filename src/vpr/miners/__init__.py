"""Miners: pick the pairs or triplets of a batch that the loss is computed from. The table names them as
pytorch-metric-learning does, with the defaults of GSV-Cities; ``none`` leaves all to the loss.

https://kevinmusgrave.github.io/pytorch-metric-learning/miners/ for the definitions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytorch_metric_learning import miners as pml
from pytorch_metric_learning.distances import CosineSimilarity, DotProductSimilarity

from vpr.components import call_with_options, lookup
from vpr.metric_learning import component


def no_miner() -> None:
    """All pairs or triplets of the batch."""


MINERS: dict[str, Callable[..., Any]] = {
    "AngularMiner": component(pml.AngularMiner, angle=20.0),
    "BatchEasyHardMiner": component(pml.BatchEasyHardMiner),
    "BatchHardMiner": component(pml.BatchHardMiner),
    "DistanceWeightedMiner": component(pml.DistanceWeightedMiner, cutoff=0.5, nonzero_loss_cutoff=1.4),
    "HDCMiner": component(pml.HDCMiner, filter_percentage=0.5),
    "MultiSimilarityMiner": component(pml.MultiSimilarityMiner, CosineSimilarity, epsilon=0.1),
    "PairMarginMiner": component(pml.PairMarginMiner, DotProductSimilarity, pos_margin=0.7, neg_margin=0.3),
    "TripletMarginMiner": component(
        pml.TripletMarginMiner,
        choices={"type_of_triplets": ("all", "easy", "hard", "semihard")},
        margin=0.1,
        type_of_triplets="semihard",
    ),
    "UniformHistogramMiner": component(pml.UniformHistogramMiner, num_bins=100, pos_per_bin=10, neg_per_bin=10),
    "none": no_miner,
}


def build_miner(name: str, **options: Any) -> Any:
    """A miner, called as ``miner(descriptors, labels)``; ``None`` for the name ``none``.

    Args:
        name: a key of ``MINERS``.
        options: the miner's own.
    """
    return call_with_options("miner", name, lookup("miner", MINERS, name), options)
