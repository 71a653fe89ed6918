"""Wrap classes of pytorch-metric-learning as components, with options by name and the defaults of the field."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn


def component(
    cls: type[nn.Module],
    distance: Callable[[], nn.Module] | None = None,
    choices: Mapping[str, tuple[Any, ...]] | None = None,
    inherited: type[nn.Module] | None = None,
    **defaults: Any,
) -> Callable[..., Any]:
    """Return a builder for ``cls`` whose signature contains our defaults.

    Args:
        cls: Loss or miner of pytorch-metric-learning.
        distance: Function that makes the distance, if the library's default is not the one used in the field; some
            classes only accept their own.
        choices: Allowed values of options that the library does not check; a type allows all of its values.
        inherited: Base class whose arguments ``cls`` accepts without naming them.
        defaults: Defaults that differ from the library's.
    """

    def build(**options: Any) -> Any:
        given = {**defaults, **options}
        for option, allowed in (choices or {}).items():
            value = given[option]
            if value not in allowed and type(value) not in allowed:
                names = ", ".join("a whole number" if a is int else str(a) for a in allowed)
                raise ValueError(f"{option} is {value!r}; choose one of: {names}")
        return cls(**given, distance=distance()) if distance else cls(**given)

    known = {
        **(inspect.signature(inherited.__init__).parameters if inherited else {}),
        **inspect.signature(cls.__init__).parameters,
    }
    shown = [
        p.replace(kind=p.KEYWORD_ONLY, default=defaults.get(name, p.default))
        for name, p in known.items()
        if name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    build.choices = frozenset(choices or ())  # type: ignore[attr-defined]
    build.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return build
