"""Read ``params.yaml`` strictly. The class that describes a section lives beside the code that uses it.

``Params.read`` parses the file once; ``section`` and ``choice`` return its parts as objects. The key of an option that
belongs to the chosen dataset or component is written as DVC writes it: ``datasets.${dataset}.images``.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vpr.config.errors import UserError

PARAMS_FILE = Path("params.yaml")
COMPONENTS = {"backbone": "backbones", "agg": "aggregators", "loss": "losses", "miner": "miners"}
SECTIONS = ("verify", "resize", "train", "export", "extract", "evaluate", "index", "rerank")
_KEYS = {"dataset", "eval_sets", "datasets", *SECTIONS, *COMPONENTS, *COMPONENTS.values()}

MAX_DEPTH = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

F = TypeVar("F")


class Options(BaseModel):
    """Values that are checked strictly: unknown keys are refused, and strings are not converted to numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Section(Options):
    """A part of ``params.yaml``.

    Attributes:
        key: Key of the section, such as ``evaluate``.
    """

    key: ClassVar[str]


S = TypeVar("S", bound=Section)
P = TypeVar("P", bound=Options)


def reads(*keys: str) -> Callable[[F], F]:
    """Mark a function with the keys of ``params.yaml`` that it reads; a test compares them with ``dvc.yaml``."""

    def mark(function: F) -> F:
        function.reads = keys  # type: ignore[attr-defined]
        return function

    return mark


@dataclass(frozen=True)
class Choice:
    """A dataset or component: its name and its options."""

    name: str
    options: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return ``{"name": ..., **options}``."""
        return {"name": self.name, **self.options}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Choice:
        """Read what ``as_dict`` returned.

        Raises:
            KeyError, TypeError: if ``content`` is anything else.
        """
        if not isinstance(content["name"], str):
            raise TypeError(f"a name is {content['name']!r}")
        return cls(content["name"], {key: value for key, value in content.items() if key != "name"})


class Params:
    """The content of ``params.yaml``; its top-level keys are checked.

    Attributes:
        content: The file as plain types.
        path: The file, for messages.
    """

    def __init__(self, content: dict[str, Any], path: Path = PARAMS_FILE) -> None:
        reject_unknown(content, _KEYS, str(path))
        missing = sorted(_KEYS - content.keys())
        if missing:
            raise UserError(f"{path}: missing keys {missing}")
        for table in ("datasets", *COMPONENTS.values()):
            if not isinstance(content[table], Mapping):
                raise UserError(f"{path}: {table} is {content[table]!r}; expected a block for each name")
        check_value(content["dataset"], str, f"{path}: dataset")
        self.content, self.path = content, path

    @classmethod
    def read(cls, path: Path = PARAMS_FILE) -> Params:
        """Read the file.

        Raises:
            UserError: if the file is missing or not valid, or has unknown or missing top-level keys.
        """
        return cls(read_yaml(path), path)

    @property
    def dataset(self) -> str:
        """Name of the chosen dataset."""
        name: str = self.content["dataset"]
        return name

    @property
    def eval_sets(self) -> list[str]:
        """Evaluation sets to extract and evaluate.

        Raises:
            UserError: if a name occurs twice, or cannot be part of a file name or a command line.
        """
        names: list[str] = check_value(self.content["eval_sets"], list[str], f"{self.path}: eval_sets")
        if not names or len(set(names)) < len(names):
            raise UserError(f"{self.path}: eval_sets is {names}; expected one or more names, each once")
        for name in names:
            check_name(name, f"{self.path}: eval_sets")
        return names

    def section(self, section: type[S]) -> S:
        """Return a section as an object.

        Raises:
            UserError: naming the key, the value and what is allowed.
        """
        return parse(self.raw(section.key), section, self.where(section.key))

    def choice(self, key: str) -> Choice:
        """Return the chosen component of a kind (``backbone``, ``agg``, ``loss`` or ``miner``) with its options."""
        table = COMPONENTS[key]
        name = check_value(self.content[key], str, f"{self.path}: {key}")
        options = self._block(table, name)
        if options is not None and not isinstance(options, Mapping):
            raise UserError(f"{self.path}: {table}.{name} is {options!r}; expected its options, or {{}} for none")
        options = dict(options or {})
        if not all(isinstance(key, str) for key in options):
            raise UserError(f"{self.path}: {table}.{name} has the keys {list(options)}; expected names of options")
        return Choice(name, options)

    def value(self, key: str, annotation: Any) -> Any:
        """Return a single value of a type, such as that of ``train.checkpoint``."""
        return check_value(self.raw(key), annotation, self.where(key))

    def raw(self, key: str) -> Any:
        """Return the unchecked value of a key such as ``datasets.${dataset}.images``."""
        value: Any = self.content
        parts = self.resolved(key).split(".")
        for depth, part in enumerate(parts):
            if depth == 1:
                value = self._block(parts[0], part)
            elif not isinstance(value, Mapping) or part not in value:
                raise UserError(f"{self.path}: {'.'.join(parts[:depth])} lacks the key {part!r}")
            else:
                value = value[part]
        return value

    def resolved(self, key: str) -> str:
        """Return a key with ``${dataset}`` and the like replaced by the chosen name."""
        return re.sub(r"\$\{(\w+)\}", lambda match: str(self.content[match[1]]), key)

    def where(self, key: str) -> str:
        """Return the file and the key, as error messages name them."""
        return f"{self.path}: {self.resolved(key)}"

    def _block(self, table: str, name: str) -> Any:
        blocks = self.content[table]
        if not isinstance(blocks, Mapping) or name not in blocks:
            known = ", ".join(sorted(blocks or []))
            raise UserError(f"{self.path}: {table} has no block {name!r}; choose one of: {known}")
        return blocks[name]


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same loader in C, many times faster


class _Loader(_Base):  # type: ignore[misc]
    """Reads ``1e-05``, as DVC writes it, as a number, where YAML 1.1 reads a string. Keys have to be strings."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        mapping: dict[str, Any] = super().construct_mapping(node, deep=deep)
        for key in mapping:
            if not isinstance(key, str):
                problem = f"the key {key!r} is not a string; write it in quotes"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return mapping


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), [*"-+0123456789"]
)


def parse_yaml(text: str) -> Any:
    """Parse a YAML text, including numbers as DVC writes them.

    Raises:
        yaml.YAMLError: if the text is not YAML, or nested deeper than ``MAX_DEPTH``.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):  # loading a deeply nested text would overflow the stack
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {MAX_DEPTH} levels")
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        UserError: if the file is missing or not valid.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; run from the project's root, where params.yaml is")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, AttributeError) as error:  # PyYAML raises the last two for invalid dates
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping at the top, got {type(content).__name__}")
    return content


def check_name(name: str, where: str) -> None:
    """Refuse a name that cannot be part of a path or a command line."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{where} names {name!r}; expected a letter or digit, then at most 63 letters, digits, '_', '-', '.'"
        )


def parse(value: Any, options: type[P], where: str, other_places: Mapping[str, str] | None = None) -> P:
    """Parse a mapping as ``options``.

    Args:
        where: Name of the mapping in error messages, such as ``params.yaml: evaluate``.
        other_places: The same for single keys that come from another place.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is {value!r}; expected the keys {sorted(options.model_fields)}")
    reject_unknown(value, options.model_fields, where)
    try:
        return options.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # one of our own checks, whose message begins with the key
            message = str(first["ctx"]["error"])
            place = (other_places or {}).get(message.split(" ")[0], where)
            raise UserError(f"{place}.{message}") from None
        name = str(first["loc"][0])
        where = (other_places or {}).get(name, where)
        if first["type"] == "missing" and len(first["loc"]) == 1:
            raise UserError(f"{where} lacks the key {name!r}") from None
        shown = value[name] if name in value else first["input"]
        field = options.model_fields[name]
        allowed = field.title or expected(field.annotation, field.metadata)
        raise UserError(f"{where}.{name} is {shown!r}; expected {allowed}") from None


def check_value(value: Any, annotation: Any, where: str) -> Any:
    """Check that a value has a type, without converting it.

    Raises:
        UserError: with the value and what is allowed.
    """
    try:
        return TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError:
        raise UserError(f"{where} is {value!r}; expected {expected(annotation)}") from None


def reject_unknown(value: Mapping[str, Any], known: Any, where: str) -> None:
    """Refuse unknown keys; the message lists the known ones."""
    unknown = sorted(str(key) for key in value if key not in known)
    if unknown:
        raise UserError(f"{where} has unknown keys {unknown}; choose from {sorted(known)}")


_PLAIN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list[int]: "a list of whole numbers",
    list[str]: "a list of names",
    type(None): "null",
}


def expected(annotation: Any, metadata: Any = ()) -> str:
    """Describe what a type allows, such as ``a whole number of at least 1 or null``."""
    limits = _limits(metadata)
    origin = get_origin(annotation)
    if origin is Literal:
        return "one of: " + ", ".join(map(str, get_args(annotation)))
    if origin in (Union, types.UnionType):
        parts = [expected(part, metadata if part is not type(None) else ()) for part in get_args(annotation)]
        return " or ".join(parts)
    if hasattr(annotation, "__metadata__"):  # Annotated
        return expected(annotation.__origin__, annotation.__metadata__)
    if origin is dict:
        return f"a block of names, each with {expected(get_args(annotation)[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a block of " + ", ".join(annotation.model_fields)
    if origin is list and hasattr(get_args(annotation)[0], "__metadata__"):
        (item,) = get_args(annotation)
        return f"a list of whole numbers{_limits(item.__metadata__, ' from ')}{limits}"
    return f"{_PLAIN.get(annotation, str(annotation))}{limits}"


def _limits(metadata: Any, least: str = " of at least ") -> str:
    limits = [limit for field in metadata for limit in getattr(field, "metadata", [field])]
    known = {
        name: value
        for limit in limits
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length")
        if (value := getattr(limit, name, None)) is not None
    }
    shown = {name: _number(value) for name, value in known.items()}
    words = ""
    if "ge" in known:
        words = f" from {shown['ge']} to {shown['le']}" if "le" in known else f"{least}{shown['ge']}"
    elif "gt" in known:
        words = f" above {shown['gt']}"
    if "le" in known and "ge" not in known:
        words += f" and at most {shown['le']}" if words else f" of at most {shown['le']}"
    if "lt" in known:
        words += f" and below {shown['lt']}" if words else f" below {shown['lt']}"
    if "min_length" in known:
        exactly = known["min_length"] == known.get("max_length")
        words += f", {known['min_length']} of them" if exactly else f", {known['min_length']} or more"
    return words


def _number(value: float) -> str:
    return f"{value:,.0f}" if isinstance(value, int) or value >= 1000 else f"{value:g}"
