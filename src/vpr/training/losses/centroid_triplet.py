"""CentroidTripletLoss: pull an image to the centroid of its place, away from those of other places.

Wieczorek et al., "On the Unreasonable Effectiveness of Centroids in Image Retrieval", ICONIP 2021.
https://arxiv.org/abs/2104.13643
Left out: the paper's joint training with other losses. pytorch-metric-learning 2.9 no longer contains this loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vpr.training.losses.base import LOSSES


@LOSSES.register(
    "CentroidTripletLoss", "[Wieczorek 2021](https://arxiv.org/abs/2104.13643)", takes_miner=True, takes_memory=False
)
class CentroidTripletLoss(nn.Module):
    """Triplet margin loss between images and centroids.

    The positive centroid of an anchor is the mean of the other images of its place.

    Args:
        margin: Required difference between the distances to other centroids and to the own one (L2, unit vectors).

    Shape:
        descriptors ``(N, D)`` and labels ``(N,)`` -> the mean over triplets of positive loss, 0 if there
        are none. ``mined`` restricts the triplets to the anchors and negative places that a miner picked.
    """

    def __init__(self, margin: float = 0.05) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, descriptors: Tensor, labels: Tensor, mined: tuple[Tensor, ...] | None = None) -> Tensor:
        _, place = torch.unique(labels, return_inverse=True)
        member = nn.functional.one_hot(place).to(descriptors.dtype)  # (N, P)
        total, size = member.T @ descriptors, member.sum(0)
        own_size = size[place]
        positive = (total[place] - descriptors) / (own_size - 1).clamp(min=1)[:, None]
        to_positive = (descriptors - normalize(positive, dim=1)).norm(dim=1)
        to_centroid = torch.cdist(descriptors, normalize(total / size[:, None], dim=1))
        allowed = (member == 0) & (own_size > 1)[:, None]
        if mined is not None:
            anchors, negatives = (mined[0], mined[2]) if len(mined) == 3 else (mined[2], mined[3])
            picked = torch.zeros_like(allowed)
            picked[anchors, place[negatives]] = True
            allowed &= picked
        violation = (to_positive[:, None] - to_centroid + self.margin).clamp(min=0) * allowed
        return violation.sum() / (violation > 0).sum().clamp(min=1)
