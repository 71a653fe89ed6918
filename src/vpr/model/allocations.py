"""Limit the memory that building a model may allocate, so that an absurdly large option is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch.overrides import TorchFunctionMode

from vpr.config.errors import UserError

GIB = 1024**3
_MAKERS = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}


@contextmanager
def limited_allocations(limit_bytes: float | None = None) -> Iterator[None]:
    """Refuse to create more tensors than fit in memory.

    Args:
        limit_bytes: Limit on the size of all tensors together; ``None`` for the memory of the machine.

    Raises:
        UserError: from the call that would exceed the limit.
    """
    with _Limit(psutil.virtual_memory().total if limit_bytes is None else limit_bytes):
        yield


class _Limit(TorchFunctionMode):
    """Adds up the sizes of the tensors that layers create."""

    def __init__(self, limit_bytes: float) -> None:
        super().__init__()
        self.limit_bytes, self.num_bytes = limit_bytes, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _MAKERS:
            shape = _shape(args, kwargs or {})
            self.num_bytes += 4 * math.prod(shape)
            if self.num_bytes > self.limit_bytes:
                raise UserError(
                    f"the model does not fit in memory: with a tensor of {' x '.join(map(str, shape))} it takes "
                    f"{self.num_bytes / GIB:,.1f} GiB, and {self.limit_bytes / GIB:,.1f} GiB are available; lower the "
                    "sizes among its options"
                )
        return func(*args, **(kwargs or {}))


def _shape(args: Any, kwargs: Any) -> list[int]:
    """Return the shape in a call such as ``torch.empty((2, 3))`` or ``torch.empty(2, 3)``."""
    size = kwargs.get("size", args[0] if args and not isinstance(args[0], int) else args)
    return [int(n) for n in size]
