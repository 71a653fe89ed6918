"""AVG: global average pooling, the simplest aggregator.

Also known as SPoC without its centring prior: Babenko and Lempitsky, "Aggregating Local Deep Features
for Image Retrieval", ICCV 2015. https://arxiv.org/abs/1510.07493
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from vpr.model.aggregators.base import AGGREGATORS, Aggregator


@AGGREGATORS.register("avg", "")
class AVG(Aggregator):
    """Average a feature map over space.

    Args:
        in_channels: Channels of the feature map, and so the size of the descriptor.

    Shape:
        features ``(B, C, H, W)`` -> descriptors ``(B, C)``, rows of unit L2 norm.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.descriptor_dim = in_channels

    def forward(self, features: Tensor) -> Tensor:
        return normalize(features.mean(dim=(-2, -1)), dim=1)
