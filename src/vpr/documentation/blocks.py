"""The blocks of components in params.yaml: each lists every option of its component, with the default if it is new."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from vpr.config.params import parse_yaml
from vpr.config.registry import Registry
from vpr.model.aggregators import AGGREGATORS
from vpr.model.backbones import BACKBONES
from vpr.training.losses import LOSSES
from vpr.training.miners import MINERS

TABLES: dict[str, Registry] = {
    "backbones": BACKBONES,
    "aggregators": AGGREGATORS,
    "losses": LOSSES,
    "miners": MINERS,
}


def with_blocks(text: str) -> str:
    """``params.yaml`` with a block for each component and a key for each option; what is there keeps its value.

    Blocks and keys of what is gone are left out. Only the lines of blocks that change are written anew.
    """
    content = parse_yaml(text)
    lines = text.splitlines()
    for table, registry in TABLES.items():
        blocks = content[table]
        for name in [name for name in blocks if name not in registry]:
            _replace(lines, table, name, None)
        for name, entry in registry.items():
            given = blocks.get(name) or {}
            wanted = {option: given.get(option, _plain(value)) for option, value in entry.options.items()}
            if name not in blocks:
                _append(lines, table, name, wanted)
            elif set(given) != set(wanted):
                _replace(lines, table, name, wanted)
    return "\n".join(lines) + "\n"


def _append(lines: list[str], table: str, name: str, options: dict[str, Any]) -> None:
    """Add a block at the end of a table."""
    first, end = _extent(lines, table)
    if not _is_in_braces(lines, first):
        lines[end:end] = _block(name, options)
        return
    code, mark, comment = lines[end - 1].partition(" #")
    lines[end - 1] = f"{code.rstrip()[:-1]},{mark}{comment}"
    lines[end:end] = [f"   {_flow(name, options)}}}"]


def _replace(lines: list[str], table: str, name: str, options: dict[str, Any] | None) -> None:
    """Write a block anew, or leave it out."""
    first, end = _extent(lines, table)
    if not _is_in_braces(lines, first):
        first, end = _extent(lines, table, name)
        lines[first:end] = [] if options is None else _block(name, options)
        return
    written = rf"(?<=[ {{]){re.escape(name)}: \{{[^{{}}]*\}}"
    if options is None:
        written += r"(, ?)?"
    new = "" if options is None else _flow(name, options)
    table_lines = re.sub(written, lambda _: new, "\n".join(lines[first:end])).splitlines()
    lines[first:end] = [line for line in table_lines if line.strip()]


def _is_in_braces(lines: list[str], first: int) -> bool:
    """Whether a table is written as ``{name: {...}, name: {...}}``, over several lines."""
    return lines[first + 1].lstrip().startswith("{")


def _extent(lines: list[str], table: str, name: str | None = None) -> tuple[int, int]:
    """First line of a table, or of a block in it, and the line after its last."""
    first, end = _lines_of(lines, 0, len(lines), f"{table}:", "")
    if name is not None:
        first, end = _lines_of(lines, first + 1, end, f"  {name}:", "  ")
    return first, end


def _lines_of(lines: list[str], start: int, stop: int, begins: str, indent: str) -> tuple[int, int]:
    first = next(k for k in range(start, stop) if lines[k].startswith(begins))
    end = first + 1
    for k in range(first + 1, stop):
        code = lines[k].partition("#")[0].rstrip()
        if code and not code.startswith(f"{indent} "):
            break
        if code:  # a comment at the end belongs to what follows
            end = k + 1
    return first, end


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _flow(name: str, options: dict[str, Any]) -> str:
    return yaml.safe_dump({name: options}, default_flow_style=True, sort_keys=False, width=1 << 20).strip()[1:-1]


def _block(name: str, options: dict[str, Any]) -> list[str]:
    line = f"  {_flow(name, options)}"
    if len(line) <= 120:
        return [line]
    return [f"  {name}:", *textwrap.indent(yaml.safe_dump(options, sort_keys=False), "    ").splitlines()]


def write_blocks(path: Path) -> None:
    """Bring a ``params.yaml`` up to date."""
    text = path.read_text(encoding="utf-8")
    path.write_text(with_blocks(text), encoding="utf-8")
