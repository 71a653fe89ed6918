"""Look a component up by its exact name and check its options against its signature."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any


def lookup(kind: str, table: Mapping[str, Any], name: str) -> Any:
    """The table's entry.

    Raises:
        ValueError: for a name that is not in the table, with those that are.
    """
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}; choose one of: {', '.join(sorted(table))}")
    return table[name]


def call_with_options(kind: str, name: str, build: Callable[..., Any], options: Mapping[str, Any], **given: Any) -> Any:
    """Call ``build`` with the user's options and with those of ``given`` that it takes.

    Raises:
        ValueError: for an option that ``build`` doesn't take, a value of another type than the default's,
            or one that ``build`` refuses; the message names component and option.
    """
    parameters = inspect.signature(build).parameters
    allowed = {p: v for p, v in parameters.items() if p not in given and p not in _INTERNAL}
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise ValueError(f"{kind} {name} has unknown options {unknown}; choose from {sorted(allowed)}")
    for option, value in options.items():
        default = allowed[option].default
        if option not in getattr(build, "choices", ()) and not _same_type(value, default):
            raise ValueError(f"{kind} {name}: {option} is {value!r}; expected a value like {default!r}")
    try:
        return build(**{k: v for k, v in given.items() if k in parameters}, **options)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{kind} {name}: {error}") from None


def with_defaults(build: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options a component is built with, those left at their default included."""
    parameters = inspect.signature(build).parameters
    defaults = {k: p.default for k, p in parameters.items() if p.default is not p.empty and k not in _GIVEN}
    return {**defaults, **options}


# Handed in by the rest of the model.
_GIVEN = {"weights", "num_classes", "embedding_size", "descriptors_dim", "in_channels", "map_size"}
_INTERNAL = {"self", "args", "kwargs"}


def _same_type(value: Any, default: Any) -> bool:
    if default is inspect.Parameter.empty or default is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, int):
        return isinstance(value, int)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and math.isfinite(value)
    if isinstance(default, (tuple, list)):
        return isinstance(value, (tuple, list))
    return isinstance(value, type(default))
