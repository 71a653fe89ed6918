"""Update the blocks of components in params.yaml: every option of a component, with its default if it is new."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

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
LONGEST = 100  # a block of options that needs more characters is written on several lines


def with_blocks(text: str) -> str:
    """Return ``params.yaml`` with a block for each component and a key for each option.

    Existing keys keep their values and comments. Blocks and keys that no longer exist are removed.
    """
    yaml = YAML()
    yaml.width = 1 << 20
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.representer.add_representer(
        float, lambda representer, value: representer.represent_scalar("tag:yaml.org,2002:float", _number(value))
    )
    content = yaml.load(text)
    for table, registry in TABLES.items():
        blocks = content[table]
        for name in [name for name in blocks if name not in registry]:
            del blocks[name]
        for name, entry in registry.items():
            given = blocks.get(name) or {}
            wanted = {option: given.get(option, _plain(value)) for option, value in entry.options.items()}
            if name not in blocks or set(given) != set(wanted):
                blocks[name] = _block(name, wanted)
    written = io.StringIO()
    yaml.dump(content, written)
    return written.getvalue()


def _block(name: str, options: dict[str, Any]) -> CommentedMap:
    block = CommentedMap(options)
    if len(f"  {name}: {options}") <= LONGEST:
        block.fa.set_flow_style()
    return block


def _number(value: float) -> str:
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")  # PyYAML reads 1e-06 as a string


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def write_blocks(path: Path) -> None:
    """Update a ``params.yaml``."""
    text = path.read_text(encoding="utf-8")
    path.write_text(with_blocks(text), encoding="utf-8")
