"""Heat maps of the parts that make two images similar.

The method is occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
https://arxiv.org/abs/1311.2901) in the feature map instead of the image, which works for any aggregator.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vpr.config.errors import UserError
from vpr.model.vpr_model import VPRModel

BLOCKS = 10  # largest number along each side of the map


@torch.inference_mode()
def similarity_maps(model: VPRModel, query: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """Measure how much similarity is lost if a part of one of two images is hidden.

    Each block of the feature map in turn is replaced by the map's mean.

    Args:
        model: Model in evaluation mode.
        query, prediction: Images ``(3, H, W)`` as the model takes them.

    Returns:
        A map ``(rows, columns)`` of blocks for each image, with 1 for the largest loss and 0 for none.
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
    """Return the maps of two images as lines of digits from 0 to 9; ``None`` if an image cannot be read."""
    preprocess = model.spec.preprocess()
    try:
        images = [preprocess.read(path) for path in (query, prediction)]
    except UserError:
        return None
    maps = similarity_maps(model, images[0], images[1])
    return [["".join(str(min(9, int(v * 10))) for v in line) for line in m.tolist()] for m in maps]
