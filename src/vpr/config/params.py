"""Read ``params.yaml`` strictly. The classes that say what each section holds live with their owners.

A section is a subclass of ``Section`` that names its key; ``load`` reads it. The key of an option that belongs to the
chosen dataset or component is written as DVC writes it: ``datasets.${dataset}.images``.
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
    """Values checked strictly: no unknown key, no string taken for a number or a boolean."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Section(Options):
    """A part of ``params.yaml``.

    Attributes:
        key: where it is, such as ``evaluate``.
    """

    key: ClassVar[str]


def reads(*keys: str) -> Callable[[F], F]:
    """Mark a function with the keys of ``params.yaml`` that it reads; a test holds them against ``dvc.yaml``."""

    def mark(function: F) -> F:
        function.reads = keys  # type: ignore[attr-defined]
        return function

    return mark


S = TypeVar("S", bound=Section)
P = TypeVar("P", bound=Options)


@dataclass(frozen=True)
class Choice:
    """A component by name, with the options of that name's block."""

    name: str
    options: dict[str, Any]


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, many times faster


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
    """The content of a YAML text, numbers as DVC writes them included.

    Raises:
        yaml.YAMLError: if the text is not YAML, or nested deeper than ``MAX_DEPTH``.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):  # the loader itself overflows the stack
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {MAX_DEPTH} levels")
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a mapping.

    Raises:
        UserError: if it is not there or not valid.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; run from the project's root, where params.yaml is")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, AttributeError) as error:  # the last two for a date that is none
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping at the top, got {type(content).__name__}")
    return content


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The whole file as a mapping, its top-level keys checked."""
    content = read_yaml(path)
    reject_unknown(content, _KEYS, str(path))
    missing = sorted(_KEYS - content.keys())
    if missing:
        raise UserError(f"{path}: missing keys {missing}")
    for table in ("datasets", *COMPONENTS.values()):
        if not isinstance(content[table], Mapping):
            raise UserError(f"{path}: {table} is {content[table]!r}; expected a block for each name")
    check_value(content["dataset"], str, f"{path}: dataset")
    return content


def load(section: type[S], path: Path = PARAMS_FILE) -> S:
    """Read a section.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    return parse(value_at(section.key, path), section, f"{path}: {resolved(section.key, path)}")


def load_choice(key: str, path: Path = PARAMS_FILE) -> Choice:
    """The chosen component of a kind (``backbone``, ``agg``, ``loss`` or ``miner``) with its options."""
    content, table = read_params(path), COMPONENTS[key]
    name = check_value(content[key], str, f"{path}: {key}")
    options = _block(content, table, name, path)
    if options is not None and not isinstance(options, Mapping):
        raise UserError(f"{path}: {table}.{name} is {options!r}; expected its options, or {{}} for none")
    options = dict(options or {})
    if not all(isinstance(key, str) for key in options):
        raise UserError(f"{path}: {table}.{name} has the keys {list(options)}; expected names of options")
    return Choice(name, options)


@reads("dataset")
def load_dataset_name(path: Path = PARAMS_FILE) -> str:
    """The chosen dataset."""
    name: str = read_params(path)["dataset"]
    return name


@reads("eval_sets")
def load_eval_sets(path: Path = PARAMS_FILE) -> list[str]:
    """The evaluation sets to extract and evaluate.

    Raises:
        UserError: if a name stands twice, or could not be a file's name or a word on a command line.
    """
    names: list[str] = check_value(read_params(path)["eval_sets"], list[str], f"{path}: eval_sets")
    if not names or len(set(names)) < len(names):
        raise UserError(f"{path}: eval_sets is {names}; expected one or more names, each once")
    for name in names:
        check_name(name, f"{path}: eval_sets")
    return names


def check_name(name: str, where: str) -> None:
    """Refuse a name that could not stand in a path or on a command line as it is."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{where} names {name!r}; expected a letter or digit, then at most 63 letters, digits, '_', '-', '.'"
        )


def value_at(key: str, path: Path = PARAMS_FILE) -> Any:
    """What stands under a key such as ``datasets.${dataset}.images``."""
    content = read_params(path)
    value: Any = content
    parts = resolved(key, path).split(".")
    for depth, part in enumerate(parts):
        if depth == 1:
            value = _block(content, parts[0], part, path)
        elif not isinstance(value, Mapping) or part not in value:
            raise UserError(f"{path}: {'.'.join(parts[:depth])} lacks the key {part!r}")
        else:
            value = value[part]
    return value


def load_value(key: str, annotation: Any, path: Path = PARAMS_FILE) -> Any:
    """A single value, such as ``train.checkpoint``."""
    return check_value(value_at(key, path), annotation, f"{path}: {resolved(key, path)}")


def resolved(key: str, path: Path = PARAMS_FILE) -> str:
    """A key with ``${dataset}`` and the like replaced by what is chosen."""
    return re.sub(r"\$\{(\w+)\}", lambda match: str(read_params(path)[match[1]]), key)


def parse(value: Any, options: type[P], where: str, other_places: Mapping[str, str] | None = None) -> P:
    """``value`` as ``options``.

    Args:
        where: what errors call it, such as ``params.yaml: evaluate``.
        other_places: the same for single keys that come from another place.

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
        if first["type"] == "value_error":  # a check of our own, whose message begins with the key
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
    """A single value of a type, strictly.

    Raises:
        UserError: with the value and what is allowed.
    """
    try:
        return TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError:
        raise UserError(f"{where} is {value!r}; expected {expected(annotation)}") from None


def reject_unknown(value: Mapping[str, Any], known: Any, where: str) -> None:
    """Refuse keys that are not known, with those that are."""
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
    """What a type allows, in words: ``a whole number, at least 1, or null``."""
    limits = _limits(metadata)
    origin = get_origin(annotation)
    if origin is Literal:
        return "one of: " + ", ".join(map(str, get_args(annotation)))
    if origin in (Union, types.UnionType):
        parts = [expected(part, metadata if part is not type(None) else ()) for part in get_args(annotation)]
        return " or ".join(parts)
    if hasattr(annotation, "__metadata__"):  # Annotated
        return expected(annotation.__origin__, annotation.__metadata__)
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


def _block(content: Mapping[str, Any], table: str, name: str, path: Path) -> Any:
    blocks = content[table]
    if not isinstance(blocks, Mapping) or name not in blocks:
        known = ", ".join(sorted(blocks or []))
        raise UserError(f"{path}: {table} has no block {name!r}; choose one of: {known}")
    return blocks[name]
