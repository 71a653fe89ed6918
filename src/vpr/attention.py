"""What a descriptor looks at: which parts of two images make them similar.

Gradient-weighted class activation mapping (Selvaraju et al., "Grad-CAM", ICCV 2017, https://arxiv.org/abs/1610.02391)
of the cosine similarity of two descriptors instead of a class score.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vpr.model import VPRModel


def similarity_maps(model: VPRModel, query: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """Which positions of the feature map raise the similarity of two images.

    Args:
        model: in evaluation mode.
        query, prediction: preprocessed images ``(3, H, W)``.

    Returns:
        For each image a map ``(h, w)``, from 0 to 1 where it counts most; all 0 where nothing does.
    """
    backbone: Any = model.backbone
    images = torch.stack([query, prediction])
    with torch.enable_grad():
        if getattr(model.aggregator, "wants_token", False):
            features, token = backbone.forward_with_token(images)
            features = features.detach().requires_grad_()
            described = model.aggregator(features, token.detach())
        else:
            features = backbone(images).detach().requires_grad_()
            described = model.aggregator(features)
        descriptors = model.projection(described)
        (descriptors[0] * descriptors[1]).sum().backward()
    weighted = (features.grad * features).sum(dim=1).clamp(min=0).detach()
    most = weighted.amax(dim=(1, 2), keepdim=True)
    maps = torch.where(most > 0, weighted / most.clamp(min=1e-30), torch.zeros_like(weighted))
    return maps[0], maps[1]
