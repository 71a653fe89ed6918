"""Read ``data/sources.yaml``, the catalogue of published sets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vpr.config.errors import UserError
from vpr.config.params import Options, parse, read_yaml

EVALUATION = ("standard", "image_lists", "ie_tower")  # layouts with a database and queries; all others are for training


class SourceParams(Options):
    """Source and expected content of a published set."""

    url: str | None = Field(
        description="`kaggle://owner/dataset`, `gdrive://id` of a file or folder, `gdrive://folder id/file`, "
        "`http(s)://`, `rsync://` (a folder) or `file://` (archive or folder); `null` if the owner has to be asked "
        "for it"
    )
    layout: Literal[
        "gsv_xs", "gsv_cities", "standard", "image_lists", "standard_train", "ie_tower", "ie_tower_train"
    ] = Field(
        description="`gsv_xs` (`<city>/<standard name>`, for training), `gsv_cities` (`Images`, `Dataframes`, for "
        "training), `standard` (database and queries, for evaluation), `image_lists` (the lists of images and "
        "positives that gsv-cities evaluates with), `standard_train` (a folder in the standard "
        "naming, whose places are made from positions), or `ie_tower_train` and `ie_tower` (that repository, for "
        "training and for evaluation)"
    )
    sha256: str | dict[str, str] | None = Field(
        default=None,
        description="SHA-256 of the archive, or of each file by name; `null` to compare later downloads with the first",
    )
    folder: str = Field(default="", description="folder of the set in the source, found at any depth")
    database: str = Field(default="database", description="folder of the database")
    queries: str = Field(default="queries", description="folder of the queries")
    frame_window: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        default=None,
        description="largest number of frames between a query and its positives, in file-name order",
    )
    query_step: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1, description="keep every n-th query, in file-name order"
    )
    lists: str | None = Field(
        default=None,
        description="for `image_lists`, the beginning of the files `..._dbImages.npy`, `..._qImages.npy` and "
        "`..._gt.npy` or `..._pIdx.npy` (with `..._qIdx.npy`), relative to the set's folder",
    )
    ground_truth: str | None = Field(
        default=None, description="`.npy` file in the source that lists the positives of each query"
    )
    allow_pickle: bool = Field(
        default=False,
        description="allow `ground_truth` to hold Python objects; reading them may run code of the publisher",
    )
    protocol: str = Field(
        default="", max_length=200, description="how the set is evaluated, in words; shown beside the recalls"
    )
    query_list: str | None = Field(
        default=None,
        description="text file in the source with one key a line, which selects queries. A key is the field `pano` of "
        "a query's standard name, or its file name without the suffix",
    )
    hold_out: bool = Field(
        default=False,
        description="for `ie_tower_train`, leave out every fifth clip; for `ie_tower`, use frames of those clips as "
        "queries, so that settings can be chosen without the published queries",
    )
    expected: dict[str, int | list[int] | list[str]] = Field(
        default_factory=dict,
        description="expected content: `images`, `places`, `cities`, `database` or `queries`, as a number, or as least "
        "and most; `cities` may be a list of names",
    )


def load_sources(path: Path) -> dict[str, SourceParams]:
    """Read and check the published sets, by name."""
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
        if (source.layout == "image_lists") != (source.lists is not None):
            raise UserError(f"{where}: the layout image_lists and the key lists go together")
        if source.frame_window is not None and source.ground_truth:
            raise UserError(f"{where} has a frame_window and a ground_truth; keep the one that defines the positives")
        sources[name] = source
    return sources
