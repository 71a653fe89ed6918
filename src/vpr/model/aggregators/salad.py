"""SALAD: features assigned to clusters by optimal transport, with a dustbin, and a global token.

Izquierdo and Civera, "Optimal Transport Aggregation for Visual Place Recognition", CVPR 2024.
https://arxiv.org/abs/2311.15937
With a linear layer at the end it is the aggregator of MegaLoc: Berton and Masone, CVPR workshops 2025,
https://arxiv.org/abs/2502.17237. It was designed for DINOv2's class token; other backbones give it the mean of their
features instead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vpr.model.aggregators.base import AGGREGATORS, Aggregator


@AGGREGATORS.register("salad", "[Izquierdo 2024](https://arxiv.org/abs/2311.15937)")
class SALAD(Aggregator):
    """Reduce features, transport them to clusters, sum, and put the global token in front.

    Args:
        in_channels, map_size: Channels, and height and width, of the feature map.
        num_clusters: Number of clusters; the feature map must have more positions.
        cluster_dim: Dimension of each cluster's part of the descriptor.
        token_dim: Dimension of the global token's part of the descriptor.
        hidden_dim: Width of the three small networks.
        dropout: Dropout rate in the networks of clusters and scores.
        iterations: Iterations of Sinkhorn's algorithm.
        descriptor_dim: Output size of a linear layer at the end, as in MegaLoc; ``None`` for no such layer.

    Shape:
        features ``(B, C, H, W)`` and token ``(B, C)`` -> descriptors of unit L2 norm, ``(B, descriptor_dim)`` or
        ``(B, token_dim + cluster_dim * num_clusters)``.

    Raises:
        ValueError: if there are no more positions than clusters, or an argument is not positive.
    """

    wants_token = True

    def __init__(
        self,
        in_channels: int,
        map_size: tuple[int, int],
        num_clusters: int = 64,
        cluster_dim: int = 128,
        token_dim: int = 256,
        hidden_dim: int = 512,
        dropout: float = 0.3,
        iterations: int = 3,
        descriptor_dim: int | None = None,
    ) -> None:
        super().__init__()
        if descriptor_dim is not None and descriptor_dim < 1:
            raise ValueError(f"descriptor_dim must be > 0, got {descriptor_dim}")
        if min(num_clusters, cluster_dim, token_dim, hidden_dim, iterations) < 1 or not 0 <= dropout < 1:
            raise ValueError(
                "num_clusters, cluster_dim, token_dim, hidden_dim, iterations must be > 0 and dropout in [0, 1), got "
                f"{num_clusters}, {cluster_dim}, {token_dim}, {hidden_dim}, {iterations} and {dropout}"
            )
        _require_positions(map_size[0] * map_size[1], num_clusters)
        own_dim = token_dim + cluster_dim * num_clusters
        self.descriptor_dim = own_dim if descriptor_dim is None else descriptor_dim
        self.iterations = iterations
        self.token = nn.Sequential(nn.Linear(in_channels, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, token_dim))
        self.reduce = _pointwise(in_channels, hidden_dim, cluster_dim, dropout)
        self.score = _pointwise(in_channels, hidden_dim, num_clusters, dropout)
        self.dustbin = nn.Parameter(torch.tensor(1.0))
        self.project = nn.Identity() if descriptor_dim is None else nn.Linear(own_dim, descriptor_dim)

    def forward(self, features: Tensor, token: Tensor) -> Tensor:
        scores = self.score(features).flatten(2)
        _require_positions(scores.shape[2], scores.shape[1])
        weights = transport(scores, self.dustbin, self.iterations).exp()[:, :-1]
        clusters = self.reduce(features).flatten(2) @ weights.transpose(1, 2)
        parts = [normalize(self.token(token), dim=1), normalize(clusters, dim=1).flatten(1)]
        return normalize(self.project(normalize(torch.cat(parts, dim=1), dim=1)), dim=1)


def transport(scores: Tensor, dustbin: Tensor, iterations: int) -> Tensor:
    """Run Sinkhorn's algorithm in the log domain.

    Each position gives a total of 1, each cluster receives 1, and the dustbin receives the rest.

    Args:
        scores: Scores ``(B, K, N)`` of K clusters and N > K positions.
        dustbin: Score of every position for the dustbin, a scalar.
        iterations: Number of rounds, each over clusters and then over positions.

    Returns:
        Logarithms of the weights ``(B, K + 1, N)``, the dustbin last; columns sum to 1 after the last round.
    """
    batch, num_clusters, num_positions = scores.shape
    scores = scores if scores.dtype == torch.float64 else scores.float()  # half precision is too coarse here
    bin_row = dustbin.to(scores.dtype).expand(batch, 1, num_positions)
    log_kernel = torch.cat([scores, bin_row], dim=1)
    takes = scores.new_zeros(num_clusters + 1)
    takes[-1] = math.log(num_positions - num_clusters)
    u = torch.zeros_like(log_kernel[:, :, 0])
    v = torch.zeros_like(log_kernel[:, 0])
    for _ in range(iterations):
        u = takes - (log_kernel + v[:, None, :]).logsumexp(dim=2)
        v = -(log_kernel + u[:, :, None]).logsumexp(dim=1)
    return log_kernel + u[:, :, None] + v[:, None, :]


def _pointwise(in_channels: int, hidden: int, out_channels: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 1), nn.Dropout(dropout), nn.ReLU(), nn.Conv2d(hidden, out_channels, 1)
    )


def _require_positions(num_positions: int, num_clusters: int) -> None:
    if num_positions <= num_clusters:
        raise ValueError(
            f"num_clusters is {num_clusters}, but the feature map has {num_positions} positions; salad needs more "
            "positions than clusters: lower num_clusters, or take larger images"
        )
