"""Photos from the street, of Mapillary: a box on the map -> a table of database and queries from different drives.

API v4, https://www.mapillary.com/developer/api-documentation. It wants a token, ``MAPILLARY_TOKEN``, and answers a
small box at a time. Images are CC BY-SA 4.0: ``images.csv`` keeps who made each. What was fetched is kept, so a run
that was interrupted goes on.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import requests
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.config.progress import progress
from vpr.data.coordinates import on_earth, to_utm
from vpr.data.csv_files import to_csv
from vpr.retrieval.positives import positives_within
from vpr.sources.download.transfer import TIMEOUT_S, Transient, raise_for, reason_of, with_retries

API = "https://graph.mapillary.com"
TOKEN = "MAPILLARY_TOKEN"
LOGIN = f"a token of Mapillary: make one at https://www.mapillary.com/dashboard/developers and set {TOKEN} to it"
LICENCE = "CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/"
FIELDS = (
    "id,geometry,computed_geometry,captured_at,compass_angle,computed_compass_angle,sequence,creator,is_pano,"
    "thumb_1024_url"
)
MOST = 2000  # images that the API gives of a box
TILE_DEG = 0.01  # side of the boxes that are asked for; the API takes no larger ones
SMALLEST_DEG = TILE_DEG / 64
THREADS = 8
TABLE, LISTED = "images.csv", "listed.json"

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Area:
    """What is asked for.

    Attributes:
        box: west, south, east and north, in degrees.
        since: no images from before, as in ``2019`` or ``20190630``; empty for all.
        panoramas: keep them.
    """

    box: Box
    since: str = ""
    panoramas: bool = False


def parse_box(text: str) -> Box:
    """West, south, east, north.

    Raises:
        UserError: for anything else.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        west = south = east = north = np.nan
    on_map = on_earth(np.array([south, north]), np.array([west, east])).all()
    if not (on_map and west < east and south < north):
        raise UserError(f"--bbox is {text!r}; expected west,south,east,north in degrees, such as 9.18,45.46,9.19,45.47")
    return west, south, east, north


def parse_since(text: str) -> str:
    """A year, a month or a day, or nothing, as Mapillary's times begin.

    Raises:
        UserError: for anything else.
    """
    if not re.fullmatch(r"(\d{4}(-\d\d(-\d\d)?)?)?", text):
        raise UserError(f"--since is {text!r}; expected a date such as 2019, 2019-06 or 2019-06-30")
    return text.replace("-", "")


def tiles(box: Box, side: float = TILE_DEG) -> list[Box]:
    """Boxes of at most ``side`` degrees that cover a box and do not overlap."""
    west, south, east, north = box
    columns, rows = (max(1, int(np.ceil(span / side - 1e-9))) for span in (east - west, north - south))
    xs, ys = np.linspace(west, east, columns + 1), np.linspace(south, north, rows + 1)
    return [
        (float(xs[i]), float(ys[j]), float(xs[i + 1]), float(ys[j + 1])) for j in range(rows) for i in range(columns)
    ]


def fetch_area(area: Area, folder: Path, share_of_queries: float, seed: int, radius_m: float, api: str = API) -> Path:
    """Write ``images.csv`` and the images of an area into a folder; the table.

    Args:
        share_of_queries: of the drives whose places other drives pass as well.
        seed: of the choice of those.
        radius_m: a database image within it is a positive.
        api: address of the server.

    Raises:
        UserError: without a token, if nothing is there, or the server can't be asked.
    """
    token = os.environ.get(TOKEN, "")
    if not token:
        raise UserError(f"Mapillary wants {LOGIN}")
    folder.mkdir(parents=True, exist_ok=True)
    rows = _chosen(_listed(area, folder, token, api), area)
    if rows.empty:
        raise UserError(f"Mapillary has no images of {','.join(map(str, area.box))} that fit; take a larger box")
    rows["split"] = split_by_drive(rows, share_of_queries, seed, radius_m)
    if not (rows["split"] == QUERIES).any():
        raise UserError(
            f"{rows['sequence'].nunique()} drives, and none passes within {radius_m:g} m of another: there is nothing "
            "to be found; take a larger box, or images since longer ago"
        )
    _download(rows, folder, token, api)
    there = [(folder / image).is_file() for image in rows["image"]]
    rows = rows[there].drop(columns="url")
    (folder / TABLE).write_text(to_csv(rows), encoding="utf-8")
    return folder / TABLE


DATABASE, QUERIES = "street/database", "street/queries"


def split_by_drive(rows: pd.DataFrame, share_of_queries: float, seed: int, radius_m: float) -> NDArray[np.object_]:
    """``street/queries`` or ``street/database`` for each image, a drive as a whole.

    Drives are taken at random, as long as half of a drive's images have one of the remaining database within the
    radius, until their images are the share asked for.

    Args:
        rows: ``sequence, utm_east, utm_north, utm_zone``.
    """
    utm, zones = rows[["utm_east", "utm_north"]].to_numpy(dtype=float), rows["utm_zone"].to_list()
    near = positives_within(utm, utm, radius_m, zones, zones)
    drive = rows["sequence"].to_numpy(dtype=object)
    is_query = np.zeros(len(rows), dtype=bool)
    for name in np.random.default_rng(seed).permutation(sorted(set(drive))):
        of_it = np.flatnonzero(drive == name)
        if is_query.sum() + len(of_it) > share_of_queries * len(rows) and is_query.any():
            continue
        left = ~is_query & (drive != name)
        if np.mean([left[near[k]].any() for k in of_it]) >= 0.5:
            # No earlier query loses its last positives.
            others = np.flatnonzero(is_query)
            if all(left[near[k]].any() for k in others if (~is_query)[near[k]].any()):
                is_query[of_it] = True
        if is_query.sum() >= share_of_queries * len(rows):
            break
    return np.where(is_query, QUERIES, DATABASE).astype(object)


def _listed(area: Area, folder: Path, token: str, api: str) -> list[dict[str, Any]]:
    """All images of the box, box by box; boxes that an earlier run had are not asked for again."""
    path = folder / LISTED
    known: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    boxes = tiles(area.box)
    with progress(len(boxes), "asking Mapillary", "boxes") as bar:
        for box in boxes:
            key = ",".join(f"{side:.6f}" for side in box)
            if key not in known:
                known[key] = list(_images_of(box, token, api))
                part = path.with_suffix(".part")
                part.write_text(json.dumps(known), encoding="utf-8")
                part.replace(path)
            bar.update()
    found = [image for box in boxes for image in known[",".join(f"{side:.6f}" for side in box)]]
    return list({image["id"]: image for image in found}.values())  # one on a border is in two boxes


def _images_of(box: Box, token: str, api: str) -> Iterator[dict[str, Any]]:
    """Images of a box; of one that has more than the API gives, those of its quarters."""
    text = ",".join(f"{side:.6f}" for side in box)
    found = images_in(_ask(f"{api}/images", {"bbox": text, "fields": FIELDS, "limit": str(MOST)}, token))
    side = max(box[2] - box[0], box[3] - box[1])
    if len(found) < MOST or side <= SMALLEST_DEG:
        yield from found
        return
    for quarter in tiles(box, side / 2 + 1e-9):
        yield from _images_of(quarter, token, api)


def images_in(answer: Any) -> list[dict[str, Any]]:
    """The images of an answer.

    Raises:
        UserError: if it has none as the API gives them.
    """
    images = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(images, list) or not all(isinstance(each, dict) and "id" in each for each in images):
        raise UserError("mapillary: the answer is not of the form that API v4 gives")
    return images


def _ask(url: str, params: dict[str, str], token: str) -> Any:
    def attempt() -> Any:
        try:
            headers = {"Authorization": f"OAuth {token}"}
            with requests.get(url, params=params, headers=headers, timeout=TIMEOUT_S) as response:
                raise_for("mapillary", response, url, LOGIN)
                return response.json()
        except (requests.RequestException, ValueError) as error:
            raise Transient(reason_of(error), advice="try later") from None

    return with_retries("mapillary", url, attempt, lambda: 0)


def _chosen(found: Sequence[dict[str, Any]], area: Area) -> pd.DataFrame:
    """Rows of the images that fit, by id; positions and headings are Mapillary's own where it has computed them."""
    rows: list[dict[str, Any]] = []
    for image in sorted(found, key=lambda image: str(image["id"])):
        with suppress(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError):  # not of its form
            rows += _row(image, area)
    table = pd.DataFrame(rows)
    if not table.empty:
        table["sequence"] = drives_of(table)
        utm = to_utm(table["lat"].to_numpy(dtype=float), table["lon"].to_numpy(dtype=float))
        table = table.assign(**dict(zip(("utm_east", "utm_north", "utm_zone"), utm, strict=True)))
    return table


def drives_of(rows: pd.DataFrame) -> list[str]:
    """The drive of each image: Mapillary cuts one into sequences, and a rig of cameras makes several at a time.

    Images of one creator with less than an hour between them are of one drive; where the creator is not known, those of
    one sequence.

    Args:
        rows: ``creator, sequence, timestamp``.
    """
    who = rows["creator"].where(rows["creator"] != "", rows["sequence"])
    ordered = pd.DataFrame({"who": who, "time": pd.to_datetime(rows["timestamp"], format="%Y%m%d%H%M%S")})
    ordered = ordered.sort_values(["who", "time"], kind="stable")
    begins = (ordered["who"] != ordered["who"].shift()) | (ordered["time"].diff() > pd.Timedelta(hours=1))
    number = begins.groupby(ordered["who"]).cumsum()
    return (ordered["who"] + "/" + number.astype(str)).reindex(rows.index).to_list()


def _row(image: dict[str, Any], area: Area) -> list[dict[str, Any]]:
    """The row of an image; none if it does not fit."""
    west, south, east, north = area.box
    geometry = image.get("computed_geometry") or image.get("geometry")
    if not geometry or not image.get("sequence") or (image.get("is_pano") and not area.panoramas):
        return []
    lon, lat = map(float, geometry["coordinates"])
    taken = datetime.fromtimestamp(image["captured_at"] / 1000, UTC)
    inside = west <= lon <= east and south <= lat <= north
    if not inside or f"{taken:%Y%m%d}" < area.since or not str(image["id"]).isalnum():
        return []
    heading = image.get("computed_compass_angle", image.get("compass_angle"))
    return [
        {
            "image": f"images/{image['id']}.jpg",
            "lat": lat,
            "lon": lon,
            "heading": np.nan if heading is None else float(heading) % 360,
            "timestamp": f"{taken:%Y%m%d%H%M%S}",
            "sequence": str(image["sequence"]),
            "creator": str((image.get("creator") or {}).get("username", "")),
            "licence": LICENCE,
            "page": f"https://www.mapillary.com/app/?pKey={image['id']}",
            "url": str(image.get("thumb_1024_url") or ""),
        }
    ]


def _download(rows: pd.DataFrame, folder: Path, token: str, api: str) -> None:
    """The images that are not there; addresses expire, so one that is refused is asked for again."""
    (folder / "images").mkdir(exist_ok=True)
    to_do = [row for row in rows.to_dict("records") if not (folder / row["image"]).is_file()]

    def fetch(row: dict[str, Any]) -> str | None:
        target = folder / row["image"]
        try:
            content = _content(row["url"])
            if content is None:
                fresh = _ask(f"{api}/{target.stem}", {"fields": "thumb_1024_url"}, token)
                content = _content(fresh.get("thumb_1024_url", ""))
        except UserError as error:
            return str(error)
        if content is None:
            return f"{row['image']}: no address for it"
        part = target.with_suffix(".part")
        part.write_bytes(content)
        part.replace(target)
        return None

    failed = []
    with (
        ThreadPoolExecutor(THREADS) as pool,
        progress(len(rows), "fetching", "images", len(rows) - len(to_do)) as bar,
    ):
        for problem in pool.map(fetch, to_do):
            if problem:
                failed.append(problem)
            bar.update()
    if failed and len(failed) == len(to_do):
        raise UserError(f"mapillary: no image could be fetched: {failed[0]}")
    if failed:
        print(f"{len(failed)} images could not be fetched and are left out: {failed[0]}; run again to try them")


def _content(url: str) -> bytes | None:
    """What is at an address; ``None`` where it has expired or there is none."""
    if not url:
        return None

    def attempt() -> bytes | None:
        try:
            with requests.get(url, timeout=TIMEOUT_S) as response:
                if response.status_code in (401, 403, 404, 410):
                    return None
                raise_for("mapillary", response, url, LOGIN)
                return response.content
        except requests.RequestException as error:
            raise Transient(reason_of(error), advice="try later") from None

    found: bytes | None = with_retries("mapillary", url, attempt, lambda: 0)
    return found
