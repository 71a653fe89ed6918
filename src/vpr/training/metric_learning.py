"""Wrap a class of pytorch-metric-learning as a component: its options by name, the field's defaults."""

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
    """A builder for ``cls`` whose signature shows the defaults that hold here.

    Args:
        cls: a loss or miner of pytorch-metric-learning.
        distance: makes the distance to use where the class's own default is not the field's; some
            classes accept their own alone.
        choices: what an option may be, where the library would take anything; a type allows its values.
        inherited: the class whose arguments ``cls`` hands on without naming them.
        defaults: that differ from the library's.
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
