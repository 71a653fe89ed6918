"""Losses: descriptors and labels -> a number to minimise. The table names them as
pytorch-metric-learning does, with the defaults of GSV-Cities.

Ali-bey et al., "GSV-Cities", https://arxiv.org/abs/2210.10239, for the settings;
https://kevinmusgrave.github.io/pytorch-metric-learning/losses/ for the definitions.
Left out: what needs other inputs than a batch of places (VICReg, Manifold, self-supervised), what the library's version
breaks under current NumPy and PyTorch (LargeMarginSoftmax, SphereFace, Histogram), and what keeps a state that is not
saved, so that a resumed training would differ (DynamicSoftMargin).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytorch_metric_learning import losses as pml
from pytorch_metric_learning.distances import DotProductSimilarity
from torch import nn

from vpr.components import call_with_options, lookup
from vpr.losses.centroid_triplet import CentroidTripletLoss
from vpr.metric_learning import component

LOSSES: dict[str, Callable[..., nn.Module]] = {
    "AngularLoss": component(pml.AngularLoss, alpha=40.0),
    "ArcFaceLoss": component(pml.ArcFaceLoss, margin=28.6, scale=64.0),
    "CentroidTripletLoss": CentroidTripletLoss,
    "CircleLoss": component(pml.CircleLoss, m=0.4, gamma=80.0),
    "ContrastiveLoss": component(pml.ContrastiveLoss, pos_margin=0.0, neg_margin=1.0),
    "CosFaceLoss": component(pml.CosFaceLoss, inherited=pml.LargeMarginSoftmaxLoss, margin=0.35, scale=64.0),
    "FastAPLoss": component(pml.FastAPLoss, num_bins=30),
    "GeneralizedLiftedStructureLoss": component(
        pml.GeneralizedLiftedStructureLoss, DotProductSimilarity, pos_margin=1.0, neg_margin=0.0
    ),
    "InstanceLoss": component(pml.InstanceLoss, gamma=64.0),
    "IntraPairVarianceLoss": component(pml.IntraPairVarianceLoss, pos_eps=0.01, neg_eps=0.01),
    "LiftedStructureLoss": component(pml.LiftedStructureLoss, neg_margin=1.0, pos_margin=0.0),
    "MarginLoss": component(pml.MarginLoss, margin=0.2, nu=0.0, beta=1.2, learn_beta=False),
    "MultiSimilarityLoss": component(pml.MultiSimilarityLoss, DotProductSimilarity, alpha=1.0, beta=50.0, base=0.0),
    "NCALoss": component(pml.NCALoss, softmax_scale=1.0),
    "NPairsLoss": component(pml.NPairsLoss),
    "NTXentLoss": component(pml.NTXentLoss, temperature=0.07),
    "NormalizedSoftmaxLoss": component(pml.NormalizedSoftmaxLoss, temperature=0.05),
    "P2SGradLoss": component(pml.P2SGradLoss),
    "PNPLoss": component(
        pml.PNPLoss, choices={"variant": ("Ds", "Dq", "Iu", "Ib", "O")}, b=2.0, alpha=1.0, anneal=0.01, variant="O"
    ),
    "ProxyAnchorLoss": component(pml.ProxyAnchorLoss, margin=0.1, alpha=32.0),
    "ProxyNCALoss": component(pml.ProxyNCALoss, inherited=pml.NCALoss, softmax_scale=1.0),
    "RankedListLoss": component(pml.RankedListLoss, margin=0.4, Tn=5.0, imbalance=0.5, alpha=1.2, Tp=0.0),
    "SignalToNoiseRatioContrastiveLoss": component(
        pml.SignalToNoiseRatioContrastiveLoss, inherited=pml.ContrastiveLoss, pos_margin=0.0, neg_margin=1.0
    ),
    "SmoothAPLoss": component(pml.SmoothAPLoss, temperature=0.01),
    "SoftTripleLoss": component(pml.SoftTripleLoss, centers_per_class=10, la=20.0, gamma=0.1, margin=0.01),
    "SubCenterArcFaceLoss": component(
        pml.SubCenterArcFaceLoss, inherited=pml.ArcFaceLoss, margin=28.6, scale=64.0, sub_centers=3
    ),
    "SupConLoss": component(pml.SupConLoss, temperature=0.07),
    "ThresholdConsistentMarginLoss": component(
        pml.ThresholdConsistentMarginLoss, lambda_plus=1.0, lambda_minus=1.0, margin_plus=0.9, margin_minus=0.5
    ),
    "TripletMarginLoss": component(
        pml.TripletMarginLoss, choices={"triplets_per_anchor": ("all", int)}, margin=0.1, triplets_per_anchor="all"
    ),
    "TupletMarginLoss": component(pml.TupletMarginLoss, margin=5.73, scale=64.0),
}


# They compare all images of a batch by definition; a miner's pairs have no meaning for them.
WITHOUT_MINER = {"InstanceLoss", "P2SGradLoss", "PNPLoss", "RankedListLoss"}

# They compare pairs of descriptors, of which one may come from an earlier batch.
WITH_MEMORY = frozenset(pml.CrossBatchMemory.supported_losses()) & LOSSES.keys()


def build_loss(name: str, descriptor_dim: int, num_places: int, **options: Any) -> nn.Module:
    """A loss, called as ``loss(descriptors, labels, mined)``.

    Args:
        name: a key of ``LOSSES``.
        descriptor_dim, num_places: size of the descriptors and number of training places, for losses
            that learn a weight for each place.
        options: the loss's own.
    """
    build = lookup("loss", LOSSES, name)
    loss: nn.Module = call_with_options(
        "loss",
        name,
        build,
        options,
        num_classes=num_places,
        embedding_size=descriptor_dim,
        descriptors_dim=descriptor_dim,
    )
    return loss
