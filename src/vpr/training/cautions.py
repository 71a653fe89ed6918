"""What is worth knowing of a run that goes on all the same: said before it begins, and in the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vpr.config.errors import UserError
from vpr.training.params import TrainParams, place_of

FEW_BATCHES = 20  # in an epoch


def few_batches(num_places: int, places_per_batch: int) -> list[str]:
    """A sentence if a training has too little to learn from.

    Args:
        num_places: that the training takes; 0 where a checkpoint was taken as it is.
        places_per_batch: of the settings.
    """
    batches = num_places // places_per_batch
    if not num_places or batches >= FEW_BATCHES:
        return []
    return [
        f"an epoch has {batches} batch{'es' * (batches != 1)}: {num_places} places, {places_per_batch} in a batch; so "
        "few teach little: make more and smaller places (docs/own-data.md says how), or lower places_per_batch"
    ]


def chosen_on_what_is_reported(val_set: str, eval_sets: Sequence[str]) -> list[str]:
    """A sentence if the best epoch was chosen on the only set that is reported."""
    if set(eval_sets) != {val_set}:
        return []
    return [
        f"{val_set} is reported, and the best epoch is chosen on it as well, so its recalls are too good: report a set "
        "that nothing was chosen on"
    ]


def check_training(settings: TrainParams, num_places: int | None, eval_sets: Sequence[str], params_file: Path) -> None:
    """Print what can be said before anything is fetched.

    Args:
        num_places: that the dataset has at most; ``None`` if that is not known.
        eval_sets: that will be reported.
        params_file: where the settings stand.

    Raises:
        UserError: if a batch takes more places than there are.
    """
    if settings.checkpoint is not None:
        return
    wanted = settings.places_per_batch
    if num_places is not None and wanted > num_places:
        where = f"{params_file}: {place_of('places_per_batch', params_file)}"
        raise UserError(f"{where} is {wanted}, but the dataset has {num_places:,} places; lower it")
    notes = chosen_on_what_is_reported(settings.val_set, eval_sets) + few_batches(num_places or 0, wanted)
    if settings.val_set not in eval_sets:
        notes.append(f"training validates on {settings.val_set}, which is not among eval_sets {list(eval_sets)}")
    for note in notes:
        print(f"note: {note}")
