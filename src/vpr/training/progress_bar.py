"""Show one progress bar for a whole training."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from vpr.config.progress import progress
from vpr.training.history import History


class TrainingProgress(Callback):
    """Counts the batches of all epochs, and shows the latest values of the history.

    Args:
        history: The history; it must come before this callback.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.bar: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        batches = trainer.num_training_batches
        self.bar = progress(trainer.max_epochs * batches, "training", "batches", trainer.current_epoch * batches)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.bar.set_description_str(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}", refresh=False)
        self.bar.set_postfix_str(in_words(self.history.latest), refresh=False)
        self.bar.update()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.bar.set_postfix_str(in_words(self.history.latest), refresh=False)  # with the last validation
        self.bar.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self.bar is not None:
            self.bar.close()


def in_words(latest: dict[str, float]) -> str:
    """Return loss, speed and validation recall as text, such as ``loss 1.32, 403 images/s, R@1 45.0``."""
    parts = []
    if "loss" in latest:
        parts += [f"loss {latest['loss']:.3g}", f"{latest['images_per_s']:,.0f} images/s"]
    recalls = {key.removeprefix("val_recall_at_"): value for key, value in latest.items() if "recall_at_" in key}
    parts += [f"R@{n} {100 * value:.1f}" for n, value in list(recalls.items())[:1]]
    return ", ".join(parts)
