"""Warnings that do not stop a run; they are printed before it begins and shown in the report."""

from __future__ import annotations

from collections.abc import Sequence

from vpr.config.errors import UserError
from vpr.config.params import Params
from vpr.training.params import TrainParams, place_of

FEW_BATCHES = 20  # an epoch with fewer batches is short


def few_batches(num_places: int, places_per_batch: int) -> list[str]:
    """Warn if there are too few places to learn from.

    Args:
        num_places: Number of training places; 0 if a checkpoint is used without training.
        places_per_batch: Number of places in a batch.

    Returns:
        A list with one sentence, or an empty list.
    """
    batches = num_places // places_per_batch
    if not num_places or batches >= FEW_BATCHES:
        return []
    return [
        f"an epoch has {batches} batch{'es' * (batches != 1)}: {num_places} places, {places_per_batch} in a batch; a "
        "model learns little from so few: make more and smaller places (docs/own-data.md), or lower places_per_batch"
    ]


def chosen_on_what_is_reported(val_set: str, eval_sets: Sequence[str]) -> list[str]:
    """Warn if the best epoch was chosen on the only set that is reported; see ``few_batches``."""
    if set(eval_sets) != {val_set}:
        return []
    return [
        f"{val_set} is the only reported set, and the best epoch is chosen on it too, so its recalls are too good: "
        "report a set that nothing is chosen on"
    ]


def check_training(settings: TrainParams, num_places: int | None, params: Params) -> None:
    """Print the warnings that are known before anything is fetched.

    Args:
        settings: Training settings.
        num_places: Largest possible number of training places; ``None`` if it is unknown.
        params: Content of ``params.yaml``.

    Raises:
        UserError: if a batch takes more places than there are.
    """
    if settings.checkpoint is not None:
        return
    wanted, eval_sets = settings.places_per_batch, params.eval_sets
    if num_places is not None and wanted > num_places:
        where = f"{params.path}: {place_of('places_per_batch', params)}"
        raise UserError(f"{where} is {wanted}, but the dataset has {num_places:,} places; lower it")
    notes = chosen_on_what_is_reported(settings.val_set, eval_sets) + few_batches(num_places or 0, wanted)
    if settings.val_set not in eval_sets:
        notes.append(f"training validates on {settings.val_set}, which is not among eval_sets {list(eval_sets)}")
    for note in notes:
        print(f"note: {note}")
