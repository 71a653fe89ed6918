"""NetVLAD: residuals of local features to cluster centres, softly assigned.

Arandjelovic et al., "NetVLAD: CNN Architecture for Weakly Supervised Place Recognition", CVPR 2016.
https://arxiv.org/abs/1511.07247
As in the authors' code, the assignment has no bias. Left out: the paper's PCA, which is an option of the model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize

from vpr.model.aggregators.base import AGGREGATORS, Aggregator

_RATIO = 100.0  # average ratio of the nearest cluster's weight to that of the second nearest before training


@AGGREGATORS.register("netvlad", "[Arandjelović 2016](https://arxiv.org/abs/1511.07247)")
class NetVLAD(Aggregator):
    """Normalise over channels, assign to clusters, sum residuals, normalise within clusters and over all.

    Before training, ``initialise`` sets the clusters from local features; until then they are random.

    Args:
        in_channels: Channels of the feature map.
        num_clusters: Number of clusters.

    Shape:
        features ``(B, C, H, W)`` -> descriptors ``(B, num_clusters * C)``, rows of unit L2 norm.

    Raises:
        ValueError: if ``num_clusters`` is below 2.
    """

    def __init__(self, in_channels: int, num_clusters: int = 64) -> None:
        super().__init__()
        if num_clusters < 2:
            raise ValueError(f"num_clusters must be at least 2, got {num_clusters}")
        self.descriptor_dim = num_clusters * in_channels
        self.num_clusters_to_initialise = num_clusters
        centres = normalize(torch.randn(num_clusters, in_channels), dim=1)
        self.centres = nn.Parameter(centres)
        self.assign = nn.Parameter(centres.clone())

    @torch.no_grad()
    def initialise(self, centres: Tensor, features: Tensor) -> None:
        """Set the clusters so that, on average, the nearest one counts 100 times as much as the second nearest.

        Args:
            centres: Cluster centres ``(num_clusters, C)`` from k-means over local features.
            features: Local features ``(N, C)`` of unit norm.
        """
        directions = normalize(centres, dim=1)
        nearest = (features @ directions.T).topk(2, dim=1).values
        alpha = math.log(_RATIO) / max(1e-6, float((nearest[:, 0] - nearest[:, 1]).mean()))
        self.centres.copy_(centres)
        self.assign.copy_(alpha * directions)

    def forward(self, features: Tensor) -> Tensor:
        local = normalize(features, dim=1)
        weights = conv2d(local, self.assign[:, :, None, None]).flatten(2).softmax(dim=1)
        sums = weights @ local.flatten(2).transpose(1, 2)
        residuals = sums - weights.sum(dim=2, keepdim=True) * self.centres
        return normalize(normalize(residuals, dim=2).flatten(1), dim=1)
