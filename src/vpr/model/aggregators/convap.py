"""ConvAP: a 1x1 convolution, then average pooling to a small grid.

Ali-bey et al., "GSV-Cities: Toward Appropriate Supervised Visual Place Recognition",
Neurocomputing 2022. https://arxiv.org/abs/2210.10239
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from vpr.model.aggregators.base import AGGREGATORS, Aggregator


@AGGREGATORS.register("convap", "[Ali-bey 2022](https://arxiv.org/abs/2210.10239)")
class ConvAP(Aggregator):
    """Reduce channels, then average over the cells of a grid.

    Args:
        in_channels: Channels of the feature map.
        out_channels: Channels after the convolution.
        s1, s2: Rows and columns of the grid.

    Shape:
        features ``(B, C, H, W)`` -> descriptors ``(B, out_channels * s1 * s2)``, rows of unit L2 norm.

    Raises:
        ValueError: if an argument is not positive.
    """

    def __init__(self, in_channels: int, out_channels: int = 512, s1: int = 2, s2: int = 2) -> None:
        super().__init__()
        if min(out_channels, s1, s2) < 1:
            raise ValueError(f"out_channels, s1 and s2 must be > 0, got {out_channels}, {s1} and {s2}")
        self.descriptor_dim = out_channels * s1 * s2
        self.grid = (s1, s2)
        self.reduce = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        cells = adaptive_avg_pool2d(self.reduce(features), self.grid)
        return normalize(cells.flatten(1), dim=1)
