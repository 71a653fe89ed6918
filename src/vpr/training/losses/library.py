"""The losses of pytorch-metric-learning under their own names, with the defaults of GSV-Cities.

The settings are those of Ali-bey et al., "GSV-Cities", https://arxiv.org/abs/2210.10239; the definitions are at
https://kevinmusgrave.github.io/pytorch-metric-learning/losses/.
Left out: losses that need other inputs than a batch of places (VICReg, Manifold, self-supervised), losses that fail
with current versions of NumPy and PyTorch (LargeMarginSoftmax, SphereFace, Histogram), and losses with a state that is
not saved, so that a resumed training would differ (DynamicSoftMargin).
"""

from __future__ import annotations

from typing import Any

from pytorch_metric_learning import losses as pml
from pytorch_metric_learning.distances import DotProductSimilarity

from vpr.training.losses.base import LOSSES
from vpr.training.metric_learning import component

_MEMORY = frozenset(pml.CrossBatchMemory.supported_losses())


def _add(name: str, build: Any, paper: str, takes_miner: bool = True) -> None:
    LOSSES.add(name, build, paper, takes_miner=takes_miner, takes_memory=name in _MEMORY)


_add("AngularLoss", component(pml.AngularLoss, alpha=40.0), "[Wang 2017](https://arxiv.org/abs/1708.01682)")
_add(
    "ArcFaceLoss", component(pml.ArcFaceLoss, margin=28.6, scale=64.0), "[Deng 2019](https://arxiv.org/abs/1801.07698)"
)
_add("CircleLoss", component(pml.CircleLoss, m=0.4, gamma=80.0), "[Sun 2020](https://arxiv.org/abs/2002.10857)")
_add(
    "ContrastiveLoss",
    component(pml.ContrastiveLoss, pos_margin=0.0, neg_margin=1.0),
    "[Hadsell 2006](https://doi.org/10.1109/CVPR.2006.100)",
)
_add(
    "CosFaceLoss",
    component(pml.CosFaceLoss, inherited=pml.LargeMarginSoftmaxLoss, margin=0.35, scale=64.0),
    "[Wang 2018](https://arxiv.org/abs/1801.09414)",
)
_add(
    "FastAPLoss",
    component(pml.FastAPLoss, num_bins=30),
    "[Cakir 2019](https://openaccess.thecvf.com/content_CVPR_2019/html/Cakir_Deep_Metric_Learning_to_Rank_CVPR_2019_paper.html)",
)
_add(
    "GeneralizedLiftedStructureLoss",
    component(pml.GeneralizedLiftedStructureLoss, DotProductSimilarity, pos_margin=1.0, neg_margin=0.0),
    "[Hermans 2017](https://arxiv.org/abs/1703.07737)",
)
_add(
    "InstanceLoss",
    component(pml.InstanceLoss, gamma=64.0),
    "[Zheng 2020](https://arxiv.org/abs/1711.05535)",
    takes_miner=False,
)
_add(
    "IntraPairVarianceLoss",
    component(pml.IntraPairVarianceLoss, pos_eps=0.01, neg_eps=0.01),
    "[Yu 2019](https://openaccess.thecvf.com/content_ICCV_2019/html/Yu_Deep_Metric_Learning_With_Tuplet_Margin_Loss_ICCV_2019_paper.html)",
)
_add(
    "LiftedStructureLoss",
    component(pml.LiftedStructureLoss, neg_margin=1.0, pos_margin=0.0),
    "[Song 2016](https://arxiv.org/abs/1511.06452)",
)
_add(
    "MarginLoss",
    component(pml.MarginLoss, margin=0.2, nu=0.0, beta=1.2, learn_beta=False),
    "[Wu 2017](https://arxiv.org/abs/1706.07567)",
)
_add(
    "MultiSimilarityLoss",
    component(pml.MultiSimilarityLoss, DotProductSimilarity, alpha=1.0, beta=50.0, base=0.0),
    "[Wang 2019](https://arxiv.org/abs/1904.06627)",
)
_add(
    "NCALoss",
    component(pml.NCALoss, softmax_scale=1.0),
    "[Goldberger 2004](https://papers.nips.cc/paper/2566-neighbourhood-components-analysis)",
)
_add(
    "NPairsLoss",
    component(pml.NPairsLoss),
    "[Sohn 2016](https://papers.nips.cc/paper/6200-improved-deep-metric-learning-with-multi-class-n-pair-loss-objective)",
)
_add("NTXentLoss", component(pml.NTXentLoss, temperature=0.07), "[Chen 2020](https://arxiv.org/abs/2002.05709)")
_add(
    "NormalizedSoftmaxLoss",
    component(pml.NormalizedSoftmaxLoss, temperature=0.05),
    "[Zhai 2019](https://arxiv.org/abs/1811.12649)",
)
_add("P2SGradLoss", component(pml.P2SGradLoss), "[Zhang 2019](https://arxiv.org/abs/1905.02479)", takes_miner=False)
_add(
    "PNPLoss",
    component(
        pml.PNPLoss, choices={"variant": ("Ds", "Dq", "Iu", "Ib", "O")}, b=2.0, alpha=1.0, anneal=0.01, variant="O"
    ),
    "[Li 2021](https://arxiv.org/abs/2102.04640)",
    takes_miner=False,
)
_add(
    "ProxyAnchorLoss",
    component(pml.ProxyAnchorLoss, margin=0.1, alpha=32.0),
    "[Kim 2020](https://arxiv.org/abs/2003.13911)",
)
_add(
    "ProxyNCALoss",
    component(pml.ProxyNCALoss, inherited=pml.NCALoss, softmax_scale=1.0),
    "[Movshovitz-Attias 2017](https://arxiv.org/abs/1703.07464)",
)
_add(
    "RankedListLoss",
    component(pml.RankedListLoss, margin=0.4, Tn=5.0, imbalance=0.5, alpha=1.2, Tp=0.0),
    "[Wang 2019](https://arxiv.org/abs/1903.03238)",
    takes_miner=False,
)
_add(
    "SignalToNoiseRatioContrastiveLoss",
    component(pml.SignalToNoiseRatioContrastiveLoss, inherited=pml.ContrastiveLoss, pos_margin=0.0, neg_margin=1.0),
    "[Yuan 2019](https://arxiv.org/abs/1904.02616)",
)
_add("SmoothAPLoss", component(pml.SmoothAPLoss, temperature=0.01), "[Brown 2020](https://arxiv.org/abs/2007.12163)")
_add(
    "SoftTripleLoss",
    component(pml.SoftTripleLoss, centers_per_class=10, la=20.0, gamma=0.1, margin=0.01),
    "[Qian 2019](https://arxiv.org/abs/1909.05235)",
)
_add(
    "SubCenterArcFaceLoss",
    component(pml.SubCenterArcFaceLoss, inherited=pml.ArcFaceLoss, margin=28.6, scale=64.0, sub_centers=3),
    "[Deng 2020](https://doi.org/10.1007/978-3-030-58621-8_43)",
)
_add("SupConLoss", component(pml.SupConLoss, temperature=0.07), "[Khosla 2020](https://arxiv.org/abs/2004.11362)")
_add(
    "ThresholdConsistentMarginLoss",
    component(pml.ThresholdConsistentMarginLoss, lambda_plus=1.0, lambda_minus=1.0, margin_plus=0.9, margin_minus=0.5),
    "[Zhang 2024](https://arxiv.org/abs/2307.04047)",
)
_add(
    "TripletMarginLoss",
    component(
        pml.TripletMarginLoss, choices={"triplets_per_anchor": ("all", int)}, margin=0.1, triplets_per_anchor="all"
    ),
    "[Schroff 2015](https://arxiv.org/abs/1503.03832)",
)
_add(
    "TupletMarginLoss",
    component(pml.TupletMarginLoss, margin=5.73, scale=64.0),
    "[Yu 2019](https://openaccess.thecvf.com/content_ICCV_2019/html/Yu_Deep_Metric_Learning_With_Tuplet_Margin_Loss_ICCV_2019_paper.html)",
)
