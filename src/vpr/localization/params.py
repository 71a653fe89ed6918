"""Section ``index`` of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from vpr.config.errors import UserError
from vpr.config.params import Params, Section, reads

VAL_SET = "train.val_set"


class IndexParams(Section):
    """The database that photos are located in."""

    key = "index"

    set: str | None = Field(
        description="evaluation set that provides the database; `null` for the first of `eval_sets` that is not the "
        "validation set"
    )
    neighbours: int = Field(ge=1, le=10_000, description="predictions of each query that the confidence is based on")


@reads("index", "eval_sets", VAL_SET)
def index_set(params: Params) -> str:
    """Return the evaluation set that provides the database of the index."""
    names, chosen = params.eval_sets, params.section(IndexParams).set
    if chosen is None:
        val_set = params.value(VAL_SET, str)
        others = [name for name in names if name != val_set]
        return (others or names)[0]
    if chosen not in names:
        raise UserError(f"{params.path}: index.set is {chosen!r}; choose null or one of eval_sets: {', '.join(names)}")
    return chosen
