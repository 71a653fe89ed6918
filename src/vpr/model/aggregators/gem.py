"""GeM: generalised-mean pooling with a learned exponent.

Radenović et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018.
https://arxiv.org/abs/1711.02512
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vpr.model.aggregators.base import AGGREGATORS, Aggregator


def gem_pool(features: Tensor, p: Tensor, eps: float) -> Tensor:
    """Generalised mean over space: ``(B, C, H, W)`` -> ``(B, C)``; values below ``eps`` count as ``eps``."""
    return features.clamp(min=eps).pow(p).mean(dim=(-2, -1)).pow(1.0 / p)


@AGGREGATORS.register("gem", "[Radenović 2018](https://arxiv.org/abs/1711.02512)")
class GeM(Aggregator):
    """Pool a feature map between its average (p = 1) and its maximum (p to infinity).

    Args:
        in_channels: Channels of the feature map, and so the descriptor dimension.
        p: Exponent to start from; it is learned.
        eps: Floor of the feature map, which keeps the power defined.

    Shape:
        features ``(B, C, H, W)`` -> descriptors ``(B, C)``, rows of unit L2 norm.

    Raises:
        ValueError: if ``p`` or ``eps`` is not positive.
    """

    def __init__(self, in_channels: int, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        if p <= 0 or eps <= 0:
            raise ValueError(f"p and eps must be > 0, got p = {p}, eps = {eps}")
        self.descriptor_dim = in_channels
        self.p = nn.Parameter(torch.tensor([float(p)]))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        return normalize(gem_pool(features, self.p, self.eps), dim=1)
