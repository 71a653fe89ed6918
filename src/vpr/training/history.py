"""Record the training curve while training runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from vpr.config.errors import UserError
from vpr.training.criterion import Mined

SHARES = ("informative_share", "share_without_pair")  # attributes of ``Mined``
Report = Callable[[dict[str, float], int], None]


class History(Callback):
    """Keeps the training curve, reports each new row, and survives an interruption.

    Args:
        every: Steps between rows.
        batch_images: Images in a batch.
        report: Function of the values of a row and its step.
    """

    def __init__(self, every: int, batch_images: int, report: Report) -> None:
        self.every, self.batch_images, self.report = every, batch_images, report
        self.rows: list[dict[str, float]] = []
        self.latest: dict[str, float] = {}  # last value of each quantity
        self.seconds = 0.0
        self._since: float | None = None
        self._images = 0
        self._losses: list[Tensor] = []
        self._mined: list[Mined] = []
        self._nothing = 0
        self._epoch_started = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds + time.monotonic() - self._epoch_started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.seconds = list(state_dict["rows"]), float(state_dict["seconds"])

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._epoch_started = self._since = time.monotonic()
        self._images = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._images += self.batch_images
        self._losses.append(pl_module.last_loss)
        self._mined.append(pl_module.mined)
        self._nothing += pl_module.mined.nothing
        step = trainer.global_step
        if step % self.every == 0 or batch_idx + 1 == trainer.num_training_batches:
            losses = self._finite_losses(step)  # this waits for the device, so that the rate counts finished work
            rate = self._images / max(1e-9, time.monotonic() - (self._since or 0.0))
            self._images, self._since = 0, time.monotonic()
            values = {
                "loss": float(np.mean(losses)),
                "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
                **{name: float(np.mean([float(getattr(m, name)) for m in self._mined])) for name in SHARES},
                "batches_without_pairs": float(self._nothing),
            }
            self._add(step, trainer.current_epoch, values, {"images_per_s": rate})
            self._losses, self._mined, self._nothing = [], [], 0

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        recall_at = pl_module.params.val_recall_at
        found = {f"val_recall_at_{n}": float(trainer.callback_metrics[f"recall_at_{n}"]) for n in recall_at}
        self._add(trainer.global_step, trainer.current_epoch, found)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.seconds += time.monotonic() - self._epoch_started
        self._epoch_started = time.monotonic()

    def _finite_losses(self, step: int) -> list[float]:
        """Return the losses since the last row.

        Args:
            step: Number of finished steps.

        Raises:
            UserError: if a loss is not finite.
        """
        losses: list[float] = torch.stack(self._losses).tolist()
        for k, loss in enumerate(losses):
            if not math.isfinite(loss):
                at = step - len(losses) + k
                raise UserError(
                    f"the loss is {loss} at step {at}; lower lr, raise warmup_steps or use precision 32-true"
                )
        return losses

    def _add(self, step: int, epoch: int, values: dict[str, float], rates: dict[str, float] | None = None) -> None:
        """Keep a row, and report it together with rates, which differ from run to run."""
        self.rows.append({"step": step, "epoch": epoch + 1, **values})
        self.latest |= {**values, **(rates or {})}
        self.report({**values, **(rates or {})}, step)
