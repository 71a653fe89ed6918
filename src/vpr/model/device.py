"""Choose the device to compute on."""

from __future__ import annotations

import torch

from vpr.config.errors import UserError


def pick_device(accelerator: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``gpu``.

    Raises:
        UserError: if a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if accelerator == "gpu" and not available:
        raise UserError("accelerator is gpu, but torch sees no GPU; set it to auto or cpu")
    return torch.device("cuda" if available and accelerator != "cpu" else "cpu")
