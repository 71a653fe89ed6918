"""The published sets: ``data/sources.yaml``, facts rather than choices."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vpr.config.errors import UserError
from vpr.config.params import Options, parse, read_yaml

EVALUATION = ("standard", "ie_tower")  # layouts of database and queries; all others are for training


class SourceParams(Options):
    """Where one published set comes from, and what should be in it."""

    url: str | None = Field(
        description="`kaggle://owner/dataset`, `gdrive://id` of a file or folder, `gdrive://folder id/file`, "
        "`http(s)://` or `file://` (archive or folder); `null` where its owner has to be asked for it"
    )
    layout: Literal["gsv_xs", "gsv_cities", "standard", "standard_train", "ie_tower", "ie_tower_train"] = Field(
        description="`gsv_xs` (`<city>/<standard name>`, for training), `gsv_cities` (`Images`, `Dataframes`, for "
        "training), `standard` (database and queries, for evaluation), `standard_train` (a folder in the standard "
        "naming, whose places are made from positions), or `ie_tower_train` and `ie_tower` (that repository, for "
        "training and for evaluation)"
    )
    sha256: str | dict[str, str] | None = Field(
        default=None,
        description="of the archive, or of each file by its name; `null` to compare later downloads with the first",
    )
    folder: str = Field(default="", description="where in the source the set is; found at any depth")
    database: str = Field(default="database", description="folder of the database")
    queries: str = Field(default="queries", description="folder of the queries")
    frame_window: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        default=None,
        description="positives are the database frames at most so many away from the query's, in file-name order",
    )
    ground_truth: str | None = Field(
        default=None, description="file in the source that lists the positives of each query, `.npy`"
    )
    allow_pickle: bool = Field(
        default=False, description="unpickle any object that `ground_truth` holds; it may run code"
    )
    protocol: str = Field(
        default="", max_length=200, description="how it is evaluated, in words; stands beside the recalls"
    )
    query_list: str | None = Field(
        default=None,
        description="text file in the source with a key a line: queries of another key are left out. A key is the "
        "field `pano` of a query's standard name, or its file name without the suffix",
    )
    hold_out: bool = Field(
        default=False,
        description="of `ie_tower_train`: without every fifth clip; of `ie_tower`: queries are frames of those clips, "
        "to choose settings by without looking at the published queries",
    )
    expected: dict[str, int | list[int] | list[str]] = Field(
        default_factory=dict,
        description="what should be there: `images`, `places`, `cities`, `database`, `queries`; a number, or least and "
        "most; for `cities` also their names",
    )


def load_sources(path: Path) -> dict[str, SourceParams]:
    """The published sets, by name, their values checked."""
    sources = {}
    for name, options in read_yaml(path).items():
        where = f"{path}: {name}"
        source = parse(options, SourceParams, where)
        hashes = {"": source.sha256} if isinstance(source.sha256, str) else source.sha256 or {}
        wrong = [value for value in hashes.values() if not re.fullmatch(r"[0-9a-fA-F]{64}", value)]
        if wrong:
            raise UserError(f"{where}.sha256 is {wrong[0]!r}; expected 64 hexadecimal digits")
        for what, number in source.expected.items():
            allowed = ("database", "queries") if source.layout in EVALUATION else ("images", "places", "cities")
            if what not in allowed:
                raise UserError(f"{where}.expected has unknown keys [{what!r}]; choose from {list(allowed)}")
            names = what == "cities" and isinstance(number, list) and {type(n) for n in number} == {str}
            pair = isinstance(number, list) and len(number) == 2 and all(isinstance(n, int) for n in number)
            if not (isinstance(number, int) or names or (pair and number == sorted(number))):  # type: ignore[type-var]
                raise UserError(f"{where}.expected.{what} is {number}; expected a number, or [least, most]")
        if source.frame_window is not None and source.ground_truth:
            raise UserError(f"{where} has a frame_window and a ground_truth; keep the one that says what a positive is")
        sources[name] = source
    return sources
