"""The training signal: a miner, a loss, and optionally a memory of earlier batches, all in float32.

The memory is the one of Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020,
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
    """Shares of what a miner picked, from 0 to 1; they may still be on the device.

    Attributes:
        informative_share: Share of the batch's pairs or triplets that were picked.
        share_without_pair: Share of the batch's images that are not the anchor of a picked positive pair or triplet;
            gsv-cities logs it as batch accuracy.
        nothing: Whether nothing was picked.
    """

    informative_share: float | Tensor
    share_without_pair: float | Tensor
    nothing: bool


class Criterion(nn.Module):
    """A miner and a loss.

    If the miner picks nothing from a batch, the loss is 0 and ``Mined.nothing`` is true, and the training does not
    change the weights.

    Args:
        loss, loss_options: Name and options of the loss.
        miner, miner_options: Name and options of the miner.
        descriptor_dim, num_places: See ``build_loss``.
        memory_size: Number of descriptors of earlier batches that a batch is also compared with; 0 for none.

    Raises:
        UserError: if the loss does not work with the miner or with a memory.
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
        # Buffers are part of the checkpoint from which an interrupted training continues. The oldest entry is first.
        self.register_buffer("kept", torch.zeros(memory_size, descriptor_dim))
        self.register_buffer("kept_labels", torch.full((memory_size,), -1))

    def forward(self, descriptors: Tensor, labels: Tensor) -> tuple[Tensor, Mined]:
        """Compute the loss of descriptors ``(N, D)`` with place labels ``(N,)``, and count what was mined."""
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
        """Compare the batch with itself and with the memory; an image is not compared with itself.

        Gradients flow through both sides of a pair within the batch, as without a memory, and through the batch's side
        of a pair with the memory. pytorch-metric-learning's ``CrossBatchMemory`` also detaches the batch's own copy.
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
        """Return zero, with zero gradients for every weight, because several ranks wait for the gradients of each."""
        return 0.0 * sum((weights.sum() for weights in self.loss.parameters()), start=descriptors.sum())


def refuse(loss: str, miner: str, memory_size: int) -> None:
    """Refuse a loss that does not work with a miner or with a memory.

    Raises:
        UserError: with the reason, and what to choose instead.
    """
    facts = LOSSES[loss].facts
    if not facts["takes_miner"] and miner != "none":
        raise UserError(
            f"{loss} compares all images of a batch by definition and takes no miner, but miner is {miner}; set miner "
            "to none"
        )
    if memory_size and not facts["takes_memory"]:
        fitting = [name for name, entry in LOSSES.items() if entry.facts["takes_memory"]]
        raise UserError(
            f"{loss} does not compare pairs of descriptors, so it cannot use a memory_size of {memory_size}; set it to "
            f"0, or choose one of: {', '.join(fitting)}"
        )
    if memory_size and miner == "BatchEasyHardMiner":
        raise UserError(
            "BatchEasyHardMiner would pick the image itself as its easiest positive from the memory; set memory_size "
            "to 0, or choose BatchHardMiner"
        )


def count_mined(mined: tuple[Tensor, ...], labels: Tensor, other_labels: Tensor) -> Mined:
    """Count the pairs or triplets that were picked, relative to all possible ones.

    Args:
        mined: Four index tensors of pairs, or three of triplets.
        labels, other_labels: Labels of the anchors, and of the images that they are compared with, including
            themselves.
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
