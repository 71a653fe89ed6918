"""The training signal: a miner, then a loss, in float32, with what was mined counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vpr.losses import WITHOUT_MINER, build_loss
from vpr.miners import build_miner

GIB = 1024**3


@dataclass(frozen=True)
class Mined:
    """What a miner picked: ``informative_share`` of all pairs or triplets of the batch, in [0, 1]."""

    informative_share: float
    nothing: bool


class Criterion(nn.Module):
    """Miner and loss by name.

    Args:
        loss, miner: names of the two tables, with options.
        descriptor_dim, num_places: see ``build_loss``.

    A batch of which the miner picks nothing has loss 0 and moves nothing; ``Mined.nothing`` says so.
    """

    def __init__(
        self,
        loss: str,
        loss_options: dict[str, Any],
        miner: str,
        miner_options: dict[str, Any],
        descriptor_dim: int,
        num_places: int,
    ) -> None:
        super().__init__()
        if loss in WITHOUT_MINER and miner != "none":
            raise ValueError(f"{loss} takes no mined pairs, and miner is {miner}; set miner to none")
        self.loss = build_loss(loss, descriptor_dim, num_places, **loss_options)
        self.miner = build_miner(miner, **miner_options)

    def forward(self, descriptors: Tensor, labels: Tensor) -> tuple[Tensor, Mined]:
        """Descriptors ``(N, D)`` and place labels ``(N,)`` -> the loss, and what was mined."""
        with torch.autocast(descriptors.device.type, enabled=False):
            descriptors = descriptors.float()
            mined = self.miner(descriptors, labels) if self.miner is not None else None
            if mined is None:
                return self.loss(descriptors, labels), Mined(1.0, False)
            stats = count_mined(mined, labels)
            if stats.nothing:
                return descriptors.sum() * 0.0, stats
            return self.loss(descriptors, labels, mined), stats


def count_mined(mined: tuple[Tensor, ...], labels: Tensor) -> Mined:
    """Share of the batch's pairs (four index tensors) or triplets (three) that were picked."""
    same = labels[:, None] == labels[None, :]
    positives = same.sum(1) - 1
    negatives = (~same).sum(1)
    if len(mined) == 3:
        picked, possible = len(mined[0]), int((positives * negatives).sum())
    else:
        picked, possible = len(mined[0]) + len(mined[2]), int((positives + negatives).sum())
    return Mined(min(1.0, picked / max(1, possible)), picked == 0)


def check_memory(
    loss: str, miner: str, num_places: int, images_per_place: int, descriptor_dim: int, limit_bytes: float
) -> None:
    """Refuse a miner and loss that cannot fit, before any work.

    The bound counts the largest tensors of pytorch-metric-learning when the miner leaves nothing out,
    as it hardly does for an untrained model.

    Args:
        num_places, images_per_place: of a batch.
        limit_bytes: memory of the device.

    Raises:
        ValueError: with the arithmetic.
    """
    batch = num_places * images_per_place
    anchors = f"{batch}·{images_per_place - 1}·{batch - images_per_place}"
    triplets = batch * (images_per_place - 1) * (batch - images_per_place)
    positives, negatives = batch * (images_per_place - 1), batch * (batch - images_per_place)
    needs: list[tuple[str, float]] = []
    if miner == "AngularMiner":
        needs.append(
            (
                f"AngularMiner gathers 5 tensors of {anchors} = {triplets:,} triplets × "
                f"{descriptor_dim} dimensions × 4 bytes",
                5.0 * triplets * descriptor_dim * 4,
            )
        )
    mines_triplets = miner in ("AngularMiner", "TripletMarginMiner")
    if miner in ("BatchHardMiner", "BatchEasyHardMiner", "DistanceWeightedMiner"):
        rows, columns, what = batch, batch, f"{batch:,} mined × {batch:,} mined"
    elif mines_triplets:
        rows, columns, what = triplets, triplets, f"{triplets:,} × {triplets:,} triplets ({anchors})"
    else:
        rows, columns, what = positives, negatives, f"{positives:,} positive × {negatives:,} negative pairs"
    if loss == "NTXentLoss":
        needs.append((f"NTXentLoss builds 5 matrices of {what} × 4 bytes", 5.0 * rows * columns * 4))
    if loss == "AngularLoss":
        needs.append(
            (
                f"AngularLoss builds 4 tensors of {rows:,} positive pairs × "
                f"({descriptor_dim} dimensions + {batch} images) × 4 bytes",
                4.0 * rows * (descriptor_dim + batch) * 4,
            )
        )
    for arithmetic, needed in needs:
        if needed > limit_bytes:
            raise ValueError(
                f"{miner} with {loss} does not fit: a batch of {num_places} places × {images_per_place} images has "
                f"{arithmetic} = {needed / GIB:,.1f} GiB, the device has {limit_bytes / GIB:,.1f} GiB; lower "
                "places_per_batch or descriptor size, choose another miner or loss, or set max_memory_gb"
            )
