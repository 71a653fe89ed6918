"""The miners of pytorch-metric-learning under their own names, with the defaults of GSV-Cities.

The definitions are at https://kevinmusgrave.github.io/pytorch-metric-learning/miners/.
"""

from __future__ import annotations

from pytorch_metric_learning import miners as pml
from pytorch_metric_learning.distances import CosineSimilarity, DotProductSimilarity

from vpr.training.metric_learning import component
from vpr.training.miners.base import MINERS


@MINERS.register("none", "")
def no_miner() -> None:
    """Use all pairs or triplets of the batch."""


MINERS.add("AngularMiner", component(pml.AngularMiner, angle=20.0), "[Wang 2017](https://arxiv.org/abs/1708.01682)")
MINERS.add("BatchEasyHardMiner", component(pml.BatchEasyHardMiner), "[Xuan 2020](https://arxiv.org/abs/1904.04370)")
MINERS.add("BatchHardMiner", component(pml.BatchHardMiner), "[Hermans 2017](https://arxiv.org/abs/1703.07737)")
MINERS.add(
    "DistanceWeightedMiner",
    component(pml.DistanceWeightedMiner, cutoff=0.5, nonzero_loss_cutoff=1.4),
    "[Wu 2017](https://arxiv.org/abs/1706.07567)",
)
MINERS.add("HDCMiner", component(pml.HDCMiner, filter_percentage=0.5), "[Yuan 2017](https://arxiv.org/abs/1611.05720)")
MINERS.add(
    "MultiSimilarityMiner",
    component(pml.MultiSimilarityMiner, CosineSimilarity, epsilon=0.1),
    "[Wang 2019](https://arxiv.org/abs/1904.06627)",
)
MINERS.add("PairMarginMiner", component(pml.PairMarginMiner, DotProductSimilarity, pos_margin=0.7, neg_margin=0.3), "")
MINERS.add(
    "TripletMarginMiner",
    component(
        pml.TripletMarginMiner,
        choices={"type_of_triplets": ("all", "easy", "hard", "semihard")},
        margin=0.1,
        type_of_triplets="semihard",
    ),
    "[Schroff 2015](https://arxiv.org/abs/1503.03832)",
)
MINERS.add(
    "UniformHistogramMiner", component(pml.UniformHistogramMiner, num_bins=100, pos_per_bin=10, neg_per_bin=10), ""
)
