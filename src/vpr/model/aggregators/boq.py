"""BoQ: learned queries attend to the encoded feature map, layer by layer.

Ali-bey et al., "BoQ: A Place is Worth a Bag of Learnable Queries", CVPR 2024.
https://arxiv.org/abs/2405.07364
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vpr.model.aggregators.base import AGGREGATORS, Aggregator

_HEAD_DIM = 64


class QueryBlock(nn.Module):
    """Encodes the features, and lets the queries attend to each other and then to the features.

    Shape:
        features ``(B, N, dim)`` -> encoded features ``(B, N, dim)``, answers ``(B, num_queries, dim)``.
    """

    def __init__(self, dim: int, num_queries: int) -> None:
        super().__init__()
        heads = max(1, dim // _HEAD_DIM)
        self.encoder = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.0, batch_first=True)
        self.queries = nn.Parameter(torch.randn(1, num_queries, dim))
        self.self_attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm_queries = nn.LayerNorm(dim)
        self.cross_attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm_answers = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(features)
        queries = self.queries.expand(features.shape[0], -1, -1)
        queries = self.norm_queries(queries + self.self_attention(queries, queries, queries, need_weights=False)[0])
        answers = self.cross_attention(queries, features, features, need_weights=False)[0]
        return features, self.norm_answers(answers)


@AGGREGATORS.register("boq", "[Ali-bey 2024](https://arxiv.org/abs/2405.07364)")
class BoQ(Aggregator):
    """Project the map, pass it through query blocks, and mix the answers of all of them.

    Args:
        in_channels: Channels of the feature map.
        proj_channels: Channels after the 3x3 projection; a multiple of 64, or below it.
        num_queries: Learned queries of each block.
        num_layers: blocks.
        row_dim: Rows that the answers are mixed into.

    Shape:
        features ``(B, C, H, W)`` -> descriptors ``(B, proj_channels * row_dim)``, rows of unit L2 norm.

    Raises:
        ValueError: if an argument is not positive, or the channels do not make whole heads.
    """

    def __init__(
        self,
        in_channels: int,
        proj_channels: int = 256,
        num_queries: int = 32,
        num_layers: int = 2,
        row_dim: int = 16,
    ) -> None:
        super().__init__()
        if min(proj_channels, num_queries, num_layers, row_dim) < 1 or num_layers > 100:
            raise ValueError(
                "proj_channels, num_queries, num_layers and row_dim must be > 0, num_layers at most 100, got "
                f"{proj_channels}, {num_queries}, {num_layers} and {row_dim}"
            )
        if proj_channels > _HEAD_DIM and proj_channels % (proj_channels // _HEAD_DIM):
            raise ValueError(f"proj_channels is {proj_channels}; expected a multiple of {_HEAD_DIM}")
        self.descriptor_dim = proj_channels * row_dim
        self.project = nn.Conv2d(in_channels, proj_channels, 3, padding=1)
        self.norm = nn.LayerNorm(proj_channels)
        self.blocks = nn.ModuleList([QueryBlock(proj_channels, num_queries) for _ in range(num_layers)])
        self.mix = nn.Linear(num_layers * num_queries, row_dim)

    def forward(self, features: Tensor) -> Tensor:
        rows = self.norm(self.project(features).flatten(2).transpose(1, 2))
        answers = []
        for block in self.blocks:
            rows, answer = block(rows)
            answers.append(answer)
        mixed = self.mix(torch.cat(answers, dim=1).transpose(1, 2))
        return normalize(mixed.flatten(1), dim=1)
