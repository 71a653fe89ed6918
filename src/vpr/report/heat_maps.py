"""What a descriptor looks at: which parts of two images make them similar.

Occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
https://arxiv.org/abs/1311.2901), in the feature map instead of the image, so that any aggregator can be asked.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vpr.config.errors import UserError
from vpr.model.vpr_model import VPRModel

BLOCKS = 10  # at most so many along each side of the map


@torch.inference_mode()
def similarity_maps(model: VPRModel, query: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the similarity of two images is lost when a part of one of them is hidden.

    A block of the feature map is replaced by the map's mean, one after the other.

    Args:
        model: in evaluation mode.
        query, prediction: images ``(3, H, W)`` as the model takes them.

    Returns:
        For each image a map ``(rows, columns)`` of its blocks, from 0 to 1 where most is lost; all 0 where nothing is.
    """
    features, token = model.backbone.forward_with_token(model.normalised(torch.stack([query, prediction])))
    descriptors = model.describe(features, token)
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
        seen = model.describe(hidden, token[k].expand(rows * columns, -1))
        lost = ((descriptors[0] * descriptors[1]).sum() - seen @ descriptors[1 - k]).clamp(min=0)
        most = lost.max()
        maps.append((lost / most if most > 0 else lost).reshape(rows, columns))
    return maps[0], maps[1]


def heat_lines(model: VPRModel, query: Path, prediction: Path) -> list[list[str]] | None:
    """The maps of two images as lines of digits from 0 to 9; ``None`` if one of them can't be read."""
    preprocess = model.spec.preprocess()
    try:
        images = [preprocess.read(path) for path in (query, prediction)]
    except UserError:
        return None
    maps = similarity_maps(model, images[0], images[1])
    return [["".join(str(min(9, int(v * 10))) for v in line) for line in m.tolist()] for m in maps]
