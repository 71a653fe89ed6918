"""How much memory a miner and a loss take for a batch."""

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
    """Refuse a miner and loss that cannot fit, before any work.

    The bound counts the largest tensors of pytorch-metric-learning when the miner leaves nothing out,
    as it hardly does for an untrained model.

    Args:
        num_places, images_per_place: of a batch.
        limit_bytes: memory of the device.
        memory_size: descriptors of earlier batches; taken to be of other places than those of the batch.

    Raises:
        UserError: with the arithmetic.
    """
    batch = num_places * images_per_place
    others = batch - images_per_place + memory_size
    anchors = f"{batch}·{images_per_place - 1}·{others}"
    triplets = batch * (images_per_place - 1) * others
    positives, negatives = batch * (images_per_place - 1), batch * others
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
    if loss in ("TripletMarginLoss", "MarginLoss") and memory_size:
        # Pairs become triplets by a table of all positives x all negatives, then three indices of 8 bytes each.
        needs.append(
            (
                f"{loss} makes up {rows:,} x {columns:,} pairs into {triplets:,} triplets × 25 bytes",
                1.0 * rows * columns + 24.0 * triplets,
            )
        )
    if loss == "AngularLoss":
        needs.append(
            (
                f"AngularLoss builds 4 tensors of {rows:,} positive pairs × "
                f"({descriptor_dim} dimensions + {batch + memory_size} images) × 4 bytes",
                4.0 * rows * (descriptor_dim + batch + memory_size) * 4,
            )
        )
    needs.append(
        (f"{memory_size:,} × {descriptor_dim} remembered numbers × 4 bytes", 4.0 * memory_size * descriptor_dim)
    )
    needs.append((f"{batch:,} × {others:,} similarities × 4 bytes", 4.0 * batch * others))
    kept = f" and {memory_size:,} remembered" if memory_size else ""
    who = loss if miner == "none" else f"{miner} with {loss}"
    for arithmetic, needed in needs:
        if needed > limit_bytes:
            raise UserError(
                f"{who} does not fit: a batch of {num_places} places × {images_per_place} images{kept} "
                f"has {arithmetic} = {needed / GIB:,.1f} GiB, the device has {limit_bytes / GIB:,.1f} GiB; lower "
                "places_per_batch, memory_size or descriptor size, choose another miner or loss, or set max_memory_gb"
            )
