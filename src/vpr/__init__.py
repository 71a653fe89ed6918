"""Visual place recognition: train, extract, evaluate; and use what was trained.

    model = vpr.load("megaloc")
    descriptors = model.describe(["one.jpg", "another.jpg"])

Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpr.api.indexing import Index
    from vpr.api.localizing import localize
    from vpr.api.models import Model, load
    from vpr.config.errors import UserError

__all__ = ["Index", "Model", "UserError", "load", "localize"]
_HOMES = {
    "Index": "vpr.api.indexing",
    "Model": "vpr.api.models",
    "UserError": "vpr.config.errors",
    "load": "vpr.api.models",
    "localize": "vpr.api.localizing",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vpr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
