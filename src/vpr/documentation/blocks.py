"""The blocks of components in params.yaml: each lists every option of its component, with the default if it is new."""

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


def with_blocks(text: str) -> str:
    """``params.yaml`` with a block for each component and a key for each option; what is there keeps its value.

    Blocks and keys of what is gone are left out. A file that lacks nothing comes back as it was.
    """
    reader = YAML()
    reader.preserve_quotes = True
    reader.width = 120
    content = reader.load(text)
    changed = False
    for table, registry in TABLES.items():
        blocks = content[table]
        for name in [name for name in blocks if name not in registry]:
            del blocks[name]
            changed = True
        for name, entry in registry.items():
            changed |= _complete(blocks, name, entry.options)
    if not changed:
        return text
    out = io.StringIO()
    reader.dump(content, out)
    return out.getvalue()


def _complete(blocks: Any, name: str, options: dict[str, Any]) -> bool:
    """Add what a block lacks, and take out what is no option; whether anything was done."""
    if name not in blocks:
        block = CommentedMap()
        block.fa.set_flow_style()
        blocks[name] = block
        is_new = True
    else:
        block, is_new = blocks[name], False
    gone = [option for option in block if option not in options]
    for option in gone:
        del block[option]
    lacking = {option: value for option, value in options.items() if option not in block}
    for option, value in lacking.items():
        block[option] = list(value) if isinstance(value, tuple) else value
    return is_new or bool(gone or lacking)


def write_blocks(path: Path) -> None:
    """Bring a ``params.yaml`` up to date."""
    text = path.read_text(encoding="utf-8")
    path.write_text(with_blocks(text), encoding="utf-8")
