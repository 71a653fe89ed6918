"""MixVPR: mix each channel's flattened map with small MLPs, then project channels and positions.

Ali-bey et al., "MixVPR: Feature Mixing for Visual Place Recognition", WACV 2023.
https://arxiv.org/abs/2303.02190
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import normalize

from vpr.model.aggregators.base import AGGREGATORS, Aggregator


class FeatureMixer(nn.Module):
    """A residual MLP over the positions of a map: ``(B, C, H * W)`` -> the same shape."""

    def __init__(self, num_positions: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(num_positions * mlp_ratio)
        self.mix = nn.Sequential(
            nn.LayerNorm(num_positions),
            nn.Linear(num_positions, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_positions),
        )
        for layer in self.mix:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, rows: Tensor) -> Tensor:
        return rows + self.mix(rows)


@AGGREGATORS.register("mixvpr", "[Ali-bey 2023](https://arxiv.org/abs/2303.02190)")
class MixVPR(Aggregator):
    """Mix, project channels, project positions.

    Args:
        in_channels, map_size: Channels, and height and width, of the feature map; the mixer's layers have
            the size of the map, so a model belongs to one image size.
        out_channels: Channels after the channel projection.
        out_rows: Positions after the row projection.
        mix_depth: Feature mixers in a row.
        mlp_ratio: Width of a mixer's hidden layer, relative to the number of positions.

    Shape:
        features ``(B, C, H, W)`` -> descriptors ``(B, out_channels * out_rows)``, rows of unit L2 norm.

    Raises:
        ValueError: if an argument is not positive, or a feature map of another size comes in.
    """

    def __init__(
        self,
        in_channels: int,
        map_size: tuple[int, int],
        out_channels: int = 128,
        out_rows: int = 4,
        mix_depth: int = 4,
        mlp_ratio: float = 1.0,
    ) -> None:
        super().__init__()
        num_positions = map_size[0] * map_size[1]
        if min(out_channels, out_rows, mix_depth) < 1 or int(num_positions * mlp_ratio) < 1 or mix_depth > 100:
            raise ValueError(
                "out_channels, out_rows, mix_depth and mlp_ratio must be > 0, mix_depth at most 100, got "
                f"{out_channels}, {out_rows}, {mix_depth} and {mlp_ratio}"
            )
        self.descriptor_dim = out_channels * out_rows
        self.fixed_map_size = (map_size[0], map_size[1])
        self.mixers = nn.Sequential(*[FeatureMixer(num_positions, mlp_ratio) for _ in range(mix_depth)])
        self.project_channels = nn.Linear(in_channels, out_channels)
        self.project_rows = nn.Linear(num_positions, out_rows)

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[-2:] != self.fixed_map_size:
            raise ValueError(
                f"mixvpr was built for a feature map of {self.fixed_map_size}, got {tuple(features.shape[-2:])}; "
                "use the image size it was trained with, or train it for the new one"
            )
        mixed = self.mixers(features.flatten(2))
        channels = self.project_channels(mixed.transpose(1, 2))
        rows = self.project_rows(channels.transpose(1, 2))
        return normalize(rows.flatten(1), dim=1)
