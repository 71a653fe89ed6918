"""docs/parameters.md: what each key of params.yaml and data/sources.yaml means, from the classes that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vpr.config.params import Options, expected, read_params
from vpr.data.params import ResizeParams
from vpr.documentation.components import table
from vpr.localization.params import IndexParams
from vpr.model.params import ExportParams, ExtractParams
from vpr.retrieval.params import EvaluateParams
from vpr.sources.base import DATASETS
from vpr.sources.catalogue import SourceParams
from vpr.training.params import TrainParams
from vpr.verification.params import VerifyParams

PAGE = """# Parameters

Written by `make docs` from the code; a test keeps it current. A key or value that is not listed here is refused before
any work, with what is allowed. On the command line a key is written with dots:
`dvc exp run -S train.seed=7 -S datasets.synthetic.train.max_epochs=4`. A key of a file other than `params.yaml` follows
the file's name: `-S data/sources.yaml:gsv_xs.url=file:///mirror/gsv_xs`.

`dataset`, `backbone`, `agg`, `loss` and `miner` name one block of `datasets`, `backbones`, `aggregators`, `losses` and
`miners`; the options of components are on [a page of their own](components.md). `eval_sets` lists the evaluation sets
to extract and evaluate.

## The training

What all datasets share stands in `train`; what suits one dataset stands in `datasets.<name>.train`. A key stands in one
of the two places, and you may move it. The second column says where it is now.

{train}

## The images of a dataset

{datasets}

## What follows the training

{sections}

## Published sets

Each block of `data/sources.yaml` says where a published set comes from.

{sources}
"""


def rows_of(options: type[Options], values: dict[str, Any] | None = None) -> list[list[str]]:
    """A row for each key: its name, its value, what is allowed, what it means."""
    rows = []
    for name, field in options.model_fields.items():
        value = [f"`{_yaml(values[name])}`"] if values is not None else []
        allowed = field.title or expected(field.annotation, field.metadata)
        rows.append([f"`{name}`", *value, field.description or "", _plain(allowed)])
    return rows


def page(params_file: Path) -> str:
    """The whole page."""
    params = read_params(params_file)
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
    for section in (VerifyParams, ResizeParams, ExportParams, ExtractParams, EvaluateParams, IndexParams):
        header = ["key", "value", "meaning", "allowed"]
        sections.append(f"### `{section.key}`\n\n{table(header, rows_of(section, params[section.key]))}")
    return PAGE.format(
        train=table(["key", "value", "meaning", "allowed"], train),
        datasets="\n\n".join(datasets),
        sections="\n\n".join(sections),
        sources=table(["key", "meaning", "allowed"], rows_of(SourceParams)),
    )


def _plain(text: str) -> str:
    """Types that have no words of their own, as they are written in Python."""
    return text.replace("dict[str, int | list[int] | list[str]]", "a block").replace("|", "or")


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    return str(value)
