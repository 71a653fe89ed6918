"""Estimate the memory that a miner and a loss take for a batch."""

from __future__ import annotations

from vpr.config.errors import UserError

GIB = 1024**3


def check_memory(
    loss: str,
    miner: str,
    num_places: int,
    images_per_place: int,
    descriptor_dim: int,
    limit_bytes: float,
    memory_size: int = 0,
) -> None:
    """Refuse a miner and a loss that are estimated not to fit, before any work.

    The estimate is the largest of a few tensors of pytorch-metric-learning, for a miner that keeps every pair or
    triplet, as miners nearly do for an untrained model. It is neither a lower nor an upper bound.

    Args:
        loss, miner: Names.
        num_places: Number of places in a batch.
        images_per_place: Number of images of each place.
        descriptor_dim: Dimension of the descriptors.
        limit_bytes: Memory of the device.
        memory_size: Number of descriptors of earlier batches, which are assumed to be of other places.

    Raises:
        UserError: with the estimate.
    """
    batch = num_places * images_per_place
    others = batch - images_per_place + memory_size
    positives, negatives = batch * (images_per_place - 1), batch * others
    triplets = positives * others
    if miner in ("BatchHardMiner", "BatchEasyHardMiner", "DistanceWeightedMiner"):  # these keep a pair for each image
        positives = negatives = batch
    elif miner in ("AngularMiner", "TripletMarginMiner"):  # a loss of pairs takes two pairs from each triplet
        positives = negatives = triplets

    needs = {
        f"{batch:,} × {others:,} similarities": 4.0 * batch * others,
        f"{memory_size:,} remembered descriptors": 4.0 * memory_size * descriptor_dim,
    }
    if miner == "AngularMiner":
        needs[f"{triplets:,} triplets of {descriptor_dim} dimensions"] = 20.0 * triplets * descriptor_dim
    if loss == "NTXentLoss":
        needs[f"{positives:,} positive × {negatives:,} negative pairs"] = 20.0 * positives * negatives
    if loss == "AngularLoss":
        columns = descriptor_dim + batch + memory_size
        needs[f"{positives:,} positive pairs × {columns:,} values"] = 16.0 * positives * columns
    if loss in ("TripletMarginLoss", "MarginLoss") and memory_size:  # every positive pair meets every negative one
        needs[f"{positives:,} × {negatives:,} pairs as triplets"] = positives * negatives + 24.0 * triplets
    what, needed = max(needs.items(), key=lambda item: item[1])
    if needed > limit_bytes:
        who = loss if miner == "none" else f"{miner} with {loss}"
        remembered = f" and {memory_size:,} remembered descriptors" if memory_size else ""
        raise UserError(
            f"{who} does not fit: a batch of {num_places} places × {images_per_place} images{remembered} is estimated "
            f"to take {needed / GIB:,.1f} GiB for {what}, and the device has {limit_bytes / GIB:,.1f} GiB; lower "
            "places_per_batch, memory_size or the descriptor's size, choose another miner or loss, or set max_memory_gb"
        )
