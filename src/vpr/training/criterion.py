"""The training signal: a miner, then a loss, in float32, with what was mined counted; and a memory of earlier batches.

The memory is that of Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020,
https://arxiv.org/abs/1912.06798.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pytorch_metric_learning.utils import loss_and_miner_utils as pairs
from torch import Tensor, nn

from vpr.config.errors import UserError
from vpr.training.losses import LOSSES, build_loss
from vpr.training.miners import build_miner


@dataclass(frozen=True)
class Mined:
    """What a miner picked, in shares from 0 to 1, where that lies.

    Attributes:
        informative_share: of all pairs or triplets of the batch.
        share_without_pair: images of the batch that are no anchor of a positive pair or triplet that was picked; it is
            what gsv-cities logs as batch accuracy.
        nothing: whether nothing was picked.
    """

    informative_share: float | Tensor
    share_without_pair: float | Tensor
    nothing: bool


class Criterion(nn.Module):
    """Miner and loss by name.

    Args:
        loss, miner: names of the two tables, with options.
        descriptor_dim, num_places: see ``build_loss``.
        memory_size: descriptors kept of earlier batches, which those of a batch are compared with as well; 0 for none.

    A batch of which the miner picks nothing has loss 0; ``Mined.nothing`` says so, and the training leaves the weights
    as they are.

    Raises:
        UserError: for a loss and a miner, or a memory, that do not go together.
    """

    kept: Tensor
    kept_labels: Tensor

    def __init__(
        self,
        loss: str,
        loss_options: dict[str, Any],
        miner: str,
        miner_options: dict[str, Any],
        descriptor_dim: int,
        num_places: int,
        memory_size: int = 0,
    ) -> None:
        super().__init__()
        refuse(loss, miner, memory_size)
        self.loss = build_loss(loss, descriptor_dim, num_places, **loss_options)
        self.miner = build_miner(miner, **miner_options)
        self.memory_size = memory_size
        # As buffers, they are in the checkpoint that an interrupted training continues from. The oldest is first.
        self.register_buffer("kept", torch.zeros(memory_size, descriptor_dim))
        self.register_buffer("kept_labels", torch.full((memory_size,), -1))

    def forward(self, descriptors: Tensor, labels: Tensor) -> tuple[Tensor, Mined]:
        """Descriptors ``(N, D)`` and place labels ``(N,)`` -> the loss, and what was mined."""
        with torch.autocast(descriptors.device.type, enabled=False):
            descriptors = descriptors.float()
            if self.memory_size:
                return self._with_memory(descriptors, labels)
            mined = self.miner(descriptors, labels) if self.miner is not None else None
            if mined is None:
                return self.loss(descriptors, labels), Mined(1.0, 0.0, False)
            stats = count_mined(mined, labels, labels)
            if stats.nothing:
                return self._nothing(descriptors), stats
            return self.loss(descriptors, labels, mined), stats

    def _with_memory(self, descriptors: Tensor, labels: Tensor) -> tuple[Tensor, Mined]:
        """The batch against itself and the memory; an image is not compared with itself.

        Gradients flow through both sides of a pair within the batch, as without a memory, and through the batch's side
        of a pair with the memory. pytorch-metric-learning's ``CrossBatchMemory`` detaches the batch's own copy as well.
        """
        filled = self.kept_labels >= 0
        others = torch.cat([descriptors, self.kept[filled]])
        other_labels = torch.cat([labels, self.kept_labels[filled].to(labels.dtype)])
        if self.miner is None:
            mined = pairs.get_all_pairs_indices(labels, other_labels)
        else:
            mined = self.miner(descriptors, labels, others, other_labels)
        own = torch.arange(len(labels), device=labels.device)
        mined = pairs.remove_self_comparisons(mined, own, len(others))
        stats = count_mined(mined, labels, other_labels)
        self.kept = torch.cat([self.kept, descriptors.detach()])[-self.memory_size :]
        self.kept_labels = torch.cat([self.kept_labels, labels])[-self.memory_size :]
        if stats.nothing:
            return self._nothing(descriptors), stats
        return self.loss(descriptors, labels, mined, others, other_labels), stats

    def _nothing(self, descriptors: Tensor) -> Tensor:
        """Zero, with gradients of zero for whatever learns: several ranks wait for those of every weight."""
        return 0.0 * sum((weights.sum() for weights in self.loss.parameters()), start=descriptors.sum())


def refuse(loss: str, miner: str, memory_size: int) -> None:
    """Refuse what does not go together.

    Raises:
        UserError: with the reason, and what to choose instead.
    """
    facts = LOSSES[loss].facts
    if not facts["takes_miner"] and miner != "none":
        raise UserError(
            f"{loss} compares all images of a batch by its definition and takes no miner, but miner is {miner}; "
            "set miner to none"
        )
    if memory_size and not facts["takes_memory"]:
        fitting = [name for name, entry in LOSSES.items() if entry.facts["takes_memory"]]
        raise UserError(
            f"{loss} does not compare two descriptors with each other alone, so memory_size {memory_size} has no "
            f"meaning for it; set it to 0, or choose one of: {', '.join(fitting)}"
        )
    if memory_size and miner == "BatchEasyHardMiner":
        raise UserError(
            "BatchEasyHardMiner's easiest positive among the remembered descriptors is the image itself; set "
            "memory_size to 0, or choose BatchHardMiner"
        )


def count_mined(mined: tuple[Tensor, ...], labels: Tensor, other_labels: Tensor) -> Mined:
    """Share of the pairs (four index tensors) or triplets (three) that were picked, of all there are.

    Args:
        labels, other_labels: of the anchors, and of those they are compared with, themselves included.
    """
    same = labels[:, None] == other_labels[None, :]
    positives = same.sum(1) - 1
    negatives = (~same).sum(1)
    if len(mined) == 3:
        picked, possible = len(mined[0]), (positives * negatives).sum()
    else:
        picked, possible = len(mined[0]) + len(mined[2]), (positives + negatives).sum()
    anchors = torch.zeros(len(labels), device=labels.device).index_fill_(0, mined[0], 1.0)
    return Mined((picked / possible.clamp(min=1)).clamp(max=1.0), 1 - anchors.mean(), picked == 0)
