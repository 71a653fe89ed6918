"""docs/parameters.md: the meaning of each key of params.yaml and data/sources.yaml, from the classes that read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tools.docs.components import table
from vpr.config.params import Options, Params, expected
from vpr.sources.base import DATASETS
from vpr.sources.catalogue import SourceParams
from vpr.stages.check import SECTION_CLASSES
from vpr.training.params import TrainParams

PAGE = """# Parameters

*Written by `make docs` from the code.*

Unknown keys and invalid values are refused before any work, with a message that says what is allowed. On the command
line a key is written with dots: `dvc exp run -S train.seed=7 -S datasets.synthetic.train.max_epochs=4`. A key of
another file follows the file's name: `-S data/sources.yaml:gsv_xs.url=file:///mirror/gsv_xs`.

`dataset`, `backbone`, `agg`, `loss` and `miner` name a block of `datasets`, `backbones`, `aggregators`, `losses` and
`miners`; [components](components.md) lists the options of the last four. `eval_sets` lists the evaluation sets to
extract and evaluate.

## Training

Settings that all datasets share are in `train`; settings that suit one dataset are in `datasets.<name>.train`, which is
`null` for a dataset that is only evaluated. You may move a key from one place to the other, apart from `checkpoint`,
`val_set` and `val_recall_at`, which other stages read from `train`.

{train}

## The images of a dataset

{datasets}

## Other stages

{sections}

## Published sets

Each block of `data/sources.yaml` describes a published set.

{sources}
"""


def rows_of(options: type[Options], values: dict[str, Any] | None = None) -> list[list[str]]:
    """Return a row for each key: name, value, meaning and allowed values."""
    rows = []
    for name, field in options.model_fields.items():
        value = [f"`{_yaml(values[name])}`"] if values is not None else []
        allowed = field.title or expected(field.annotation, field.metadata)
        rows.append([f"`{name}`", *value, field.description or "", _brief(allowed)])
    return rows


def page(params_file: Path) -> str:
    """Return the page."""
    params = Params.read(params_file).content
    train = []
    for name, *rest in rows_of(TrainParams):
        key = name.strip("`")
        shared = key in params["train"]
        place = f"`{_yaml(params['train'][key])}`" if shared else "of each dataset"
        train.append([name, place, *rest])
    datasets, seen = [], set()
    for name, block in params["datasets"].items():
        adapter: Any = DATASETS[name].build
        if adapter in seen:
            continue
        seen.add(adapter)
        names = [f"`datasets.{other}.images`" for other in DATASETS if DATASETS[other].build is adapter]
        header = ["key", f"`{name}`", "meaning", "allowed"]
        datasets.append(f"### {', '.join(names)}\n\n{table(header, rows_of(adapter.Params, block['images']))}")
    sections = []
    for section in SECTION_CLASSES:
        header = ["key", "value", "meaning", "allowed"]
        sections.append(f"### `{section.key}`\n\n{table(header, rows_of(section, params[section.key]))}")
    return PAGE.format(
        train=table(["key", "value", "meaning", "allowed"], train),
        datasets="\n\n".join(datasets),
        sections="\n\n".join(sections),
        sources=table(["key", "meaning", "allowed"], rows_of(SourceParams)),
    )


def _brief(allowed: str) -> str:
    """Shorten the words of an error message for a table."""
    if allowed in ("true or false", "a string"):
        return ""
    return re.sub(r"\ba (list of )?whole number(s?) ", r"\1whole number\2 ", allowed).replace("one of: ", "")


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    return str(value)
