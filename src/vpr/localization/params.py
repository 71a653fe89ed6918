"""``index`` of ``params.yaml``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vpr.config.errors import UserError
from vpr.config.params import PARAMS_FILE, Section, load, load_eval_sets, load_value, reads

VAL_SET = "datasets.${dataset}.train.val_set"


class IndexParams(Section):
    """What photos are located in."""

    key = "index"

    set: str | None = Field(
        description="evaluation set whose database it is; `null` for the first of `eval_sets` that is not validated on"
    )
    neighbours: int = Field(ge=1, le=10_000, description="predictions of each query that the confidence looks at")


@reads("dataset", "index", "eval_sets", VAL_SET)
def load_index_set(path: Path = PARAMS_FILE) -> str:
    """The evaluation set whose database photos are located in."""
    names, chosen = load_eval_sets(path), load(IndexParams, path).set
    if chosen is None:
        val_set = load_value(VAL_SET, str, path)
        others = [name for name in names if name != val_set]
        return (others or names)[0]
    if chosen not in names:
        raise UserError(f"{path}: index.set is {chosen!r}; choose null or one of eval_sets: {', '.join(names)}")
    return chosen
