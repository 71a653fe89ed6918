"""Wrap a class of pytorch-metric-learning as a component: its options by name, the field's defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn


def component(
    cls: type[nn.Module], distance: Callable[[], nn.Module] | None = None, **defaults: Any
) -> Callable[..., Any]:
    """A builder for ``cls`` whose signature shows the defaults that hold here.

    Args:
        cls: a loss or miner of pytorch-metric-learning.
        distance: makes the distance to use where the class's own default is not the field's; some
            classes accept their own alone.
        defaults: that differ from the library's.
    """

    def build(**options: Any) -> Any:
        given = {**defaults, **options}
        return cls(**given, distance=distance()) if distance else cls(**given)

    known = inspect.signature(cls.__init__).parameters
    shown = [
        p.replace(kind=p.KEYWORD_ONLY, default=defaults.get(name, p.default))
        for name, p in known.items()
        if name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    build.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return build
