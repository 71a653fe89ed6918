"""Tables of components by name. A component registers itself in its own file and can then be chosen by name.

A table imports the files of its folder on first use, so adding a component means adding a file.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from vpr.config.errors import UserError

B = TypeVar("B", bound=Callable[..., Any])
# Arguments that come from the rest of the model or from the training settings; all others are options.
GIVEN = {
    "self", "weights", "num_classes", "embedding_size", "descriptors_dim", "in_channels", "map_size",
    "layers_to_crop", "layers_to_freeze", "name",
}  # fmt: skip
MAX_NUMBER, MAX_ITEMS = 100_000, 100  # largest number, and most items, that an option may have
_REST = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


@dataclass(frozen=True)
class Entry:
    """A component of a table.

    Attributes:
        name: Name in ``params.yaml``.
        build: Class or function that builds it; its signature holds the options and their defaults.
        paper: Link in Markdown, or ``""``.
        facts: Further properties, which depend on the kind of component.
    """

    name: str
    build: Callable[..., Any]
    paper: str
    facts: Mapping[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """The options and their defaults."""
        parameters = inspect.signature(self.build).parameters
        return {k: p.default for k, p in parameters.items() if k not in GIVEN and p.default is not p.empty}

    def with_defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given options, completed by the defaults."""
        return {**self.options, **options}


class Registry(Mapping[str, Entry]):
    """The components of one kind by name.

    Args:
        kind: Name of the kind in messages, such as ``aggregator``.
        package: Package whose files register the components.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, Entry] = {}
        self._is_loaded = False

    def register(self, name: str, paper: str, **facts: Any) -> Callable[[B], B]:
        """Decorate a class or function that builds a component, so that it can be chosen by name."""

        def add(build: B) -> B:
            self.add(name, build, paper, **facts)
            return build

        return add

    def add(self, name: str, build: Callable[..., Any], paper: str, **facts: Any) -> None:
        """Add a component, so that it can be chosen by name."""
        if name in self._entries:
            taken = self._entries[name].build.__module__
            raise UserError(f"{build.__module__}: the name {name!r} is taken by {taken}; choose another")
        no_default = [
            option
            for option, parameter in inspect.signature(build).parameters.items()
            if option not in GIVEN and parameter.default is parameter.empty and parameter.kind not in _REST
        ]
        if no_default:
            raise UserError(f"{build.__module__}: the options {no_default} of {self.kind} {name} need default values")
        self._entries[name] = Entry(name, build, paper, facts)

    def _all(self) -> dict[str, Entry]:
        if not self._is_loaded:
            self._is_loaded = True
            folder = importlib.import_module(self.package)
            for module in sorted(pkgutil.iter_modules(folder.__path__), key=lambda m: m.name):
                importlib.import_module(f"{self.package}.{module.name}")
            self._entries = dict(sorted(self._entries.items()))
        return self._entries

    def __getitem__(self, name: str) -> Entry:
        if name not in self._all():
            raise UserError(f"unknown {self.kind} {name!r}; choose one of: {', '.join(self._all())}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def build(self, name: str, options: Mapping[str, Any], **given: Any) -> Any:
        """Build a component from the user's options and from the arguments in ``given`` that it takes.

        Raises:
            UserError: for an unknown name or option, a value whose type differs from the default's, or a value that
                the component refuses. The message names the component and the option.
        """
        entry = self[name]
        parameters = inspect.signature(entry.build).parameters
        allowed = {k for k in parameters if k not in given and k not in ("self", "args", "kwargs")}
        unknown = sorted(set(options) - allowed)
        if unknown:
            raise UserError(f"{self.kind} {name} has unknown options {unknown}; choose from {sorted(allowed)}")
        for option, value in options.items():
            default = parameters[option].default
            if option not in getattr(entry.build, "choices", ()) and not _same_type(value, default):
                raise UserError(f"{self.kind} {name}: {option} is {value!r}; expected {_like(default)}")
            numbers = value if isinstance(value, (tuple, list)) else [value]
            if len(numbers) > MAX_ITEMS or any(isinstance(n, (int, float)) and abs(n) > MAX_NUMBER for n in numbers):
                raise UserError(
                    f"{self.kind} {name}: {option} is out of range; numbers are at most {MAX_NUMBER:,}, and "
                    f"lists have at most {MAX_ITEMS} items"
                )
        try:
            return entry.build(**{k: v for k, v in given.items() if k in parameters}, **options)
        except (ValueError, AssertionError) as error:  # a component names its argument
            raise UserError(f"{self.kind} {name}: {error}") from None


def _like(default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    kinds = {int: "a whole number", float: "a number", str: "a name", tuple: "a list", list: "a list"}
    shown = list(default) if isinstance(default, tuple) else default
    return f"{kinds.get(type(default), 'a value')} such as {shown}"


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
