"""CosPlace: GeM over normalised features, then a linear layer.

Berton et al., "Rethinking Visual Geo-localization for Large-Scale Applications", CVPR 2022.
https://arxiv.org/abs/2204.02287
This is the aggregator only; the paper's training by classification is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vpr.model.aggregators.base import AGGREGATORS, Aggregator
from vpr.model.aggregators.gem import gem_pool


@AGGREGATORS.register("cosplace", "[Berton 2022](https://arxiv.org/abs/2204.02287)")
class CosPlace(Aggregator):
    """Normalise over channels, pool with GeM, project.

    Args:
        in_channels: Channels of the feature map.
        descriptor_dim: Dimension of the descriptor.
        p, eps: See ``GeM``.

    Shape:
        features ``(B, C, H, W)`` -> descriptors ``(B, descriptor_dim)``, rows of unit L2 norm.

    Raises:
        ValueError: if ``descriptor_dim``, ``p`` or ``eps`` is not positive.
    """

    def __init__(self, in_channels: int, descriptor_dim: int = 512, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        if descriptor_dim < 1 or p <= 0 or eps <= 0:
            raise ValueError(
                f"descriptor_dim, p and eps must be > 0, got descriptor_dim = {descriptor_dim}, p = {p}, eps = {eps}"
            )
        self.descriptor_dim = descriptor_dim
        self.p = nn.Parameter(torch.tensor([float(p)]))
        self.eps = eps
        self.project = nn.Linear(in_channels, descriptor_dim)

    def forward(self, features: Tensor) -> Tensor:
        pooled = gem_pool(normalize(features, dim=1), self.p, self.eps)
        return normalize(self.project(pooled), dim=1)
