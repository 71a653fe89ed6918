"""MAX: global max pooling, the maximum activations of convolutions.

Tolias et al., "Particular Object Retrieval with Integral Max-Pooling of CNN Activations", ICLR 2016.
https://arxiv.org/abs/1511.05879
Left out: the paper's regions and PCA.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from vpr.model.aggregators.base import AGGREGATORS, Aggregator


@AGGREGATORS.register("max", "[Tolias 2016](https://arxiv.org/abs/1511.05879)")
class MAX(Aggregator):
    """Take the greatest value of each channel.

    Args:
        in_channels: Channels of the feature map, and so the descriptor dimension.

    Shape:
        features ``(B, C, H, W)`` -> descriptors ``(B, C)``, rows of unit L2 norm.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.descriptor_dim = in_channels

    def forward(self, features: Tensor) -> Tensor:
        return normalize(features.amax(dim=(-2, -1)), dim=1)
