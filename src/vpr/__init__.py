"""Visual place recognition: train and evaluate models, and use them to locate photos.

    model = vpr.load("megaloc")
    descriptors = model.describe(["one.jpg", "another.jpg"])

Importing this package imports nothing else; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpr.api.load_model import load
    from vpr.api.localize import localize
    from vpr.config.errors import UserError
    from vpr.descriptors.trained_model import Model
    from vpr.serving.answers import Answer, Prediction
    from vpr.serving.index import Index

__all__ = ["Answer", "Index", "Model", "Prediction", "UserError", "load", "localize"]
_MODULES = {
    "Answer": "vpr.serving.answers",
    "Index": "vpr.serving.index",
    "Model": "vpr.descriptors.trained_model",
    "Prediction": "vpr.serving.answers",
    "UserError": "vpr.config.errors",
    "load": "vpr.api.load_model",
    "localize": "vpr.api.localize",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'vpr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
