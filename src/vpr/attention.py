"""What a descriptor looks at: which parts of two images make them similar.

Occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
https://arxiv.org/abs/1311.2901), in the feature map instead of the image, so that any aggregator can be asked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vpr.model import VPRModel

BLOCKS = 10  # at most so many along each side of the map


@torch.inference_mode()
def similarity_maps(model: VPRModel, query: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the similarity of two images is lost when a part of one of them is hidden.

    A block of the feature map is replaced by the map's mean, one after the other.

    Args:
        model: in evaluation mode.
        query, prediction: preprocessed images ``(3, H, W)``.

    Returns:
        For each image a map ``(rows, columns)`` of its blocks, from 0 to 1 where most is lost; all 0 where nothing is.
    """
    backbone: Any = model.backbone
    features, token = backbone.forward_with_token(torch.stack([query, prediction]))
    descriptors = _describe(model, features, token)
    height, width = features.shape[-2:]
    rows, columns = min(height, BLOCKS), min(width, BLOCKS)
    row_of = torch.arange(height) * rows // height
    column_of = torch.arange(width) * columns // width
    maps = []
    for k in (0, 1):
        hidden = features[k].expand(rows * columns, -1, -1, -1).clone()
        mean = features[k].mean(dim=(1, 2))
        for block in range(rows * columns):
            inside = (row_of == block // columns)[:, None] & (column_of == block % columns)[None, :]
            hidden[block] = torch.where(inside, mean[:, None, None], hidden[block])
        seen = _describe(model, hidden, token[k].expand(rows * columns, -1))
        lost = ((descriptors[0] * descriptors[1]).sum() - seen @ descriptors[1 - k]).clamp(min=0)
        most = lost.max()
        maps.append((lost / most if most > 0 else lost).reshape(rows, columns))
    return maps[0], maps[1]


def _describe(model: VPRModel, features: Tensor, token: Tensor) -> Tensor:
    wants_token = getattr(model.aggregator, "wants_token", False)
    described = model.aggregator(features, token) if wants_token else model.aggregator(features)
    projected: Tensor = model.projection(described)
    return projected
