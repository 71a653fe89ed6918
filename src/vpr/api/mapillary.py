"""Fetch street photos of an area from Mapillary, as a dataset whose database and queries are from different drives.

This uses API v4, https://www.mapillary.com/developer/api-documentation, which needs a token in ``MAPILLARY_TOKEN`` and
answers for a small box at a time. The images are CC BY-SA 4.0; ``images.csv`` names the creator of each. Fetched files
are kept, so an interrupted run continues.
"""

from __future__ import annotations

import json
import os
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

from vpr.config.atomic_files import atomic_write
from vpr.config.errors import UserError
from vpr.config.progress import progress
from vpr.data.coordinates import on_earth, to_utm
from vpr.data.csv_files import to_csv
from vpr.data.positions import Positions, near
from vpr.sources.download.transfer import TIMEOUT_S, Transient, raise_for, reason_of, with_retries

API = "https://graph.mapillary.com"
TOKEN = "MAPILLARY_TOKEN"
LOGIN = f"a token of Mapillary: make one at https://www.mapillary.com/dashboard/developers and set {TOKEN} to it"
LICENCE = "CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/"
FIELDS = (
    "id,geometry,computed_geometry,captured_at,compass_angle,computed_compass_angle,sequence,creator,is_pano,"
    "thumb_1024_url"
)
MOST = 2000  # most images that the API returns for a box
TILE_DEG = 0.01  # side of the boxes to request; the API refuses larger ones
SMALLEST_DEG = TILE_DEG / 64
THREADS = 8
MOST_OVER_DATE_LINE_DEG = 10  # a box that looks wider probably has west and east swapped
TABLE, LISTED = "images.csv", "listed.json"

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Area:
    """An area, and the images to fetch in it.

    Attributes:
        box: West, south, east and north, in degrees; east is above 180 if the box lies on both sides of the date line.
        since: Plain timestamp of the oldest images to keep, such as ``2019``; empty for all.
        panoramas: Whether to keep panoramas.
    """

    box: Box
    since: str = ""
    panoramas: bool = False


def parse_box(text: str) -> Box:
    """Parse a text such as ``9.18,45.46,9.19,45.47``: west, south, east, north.

    If west is larger than east, the box lies on both sides of the date line, as in ``179.9,-17,-179.9,-16.9``.

    Raises:
        UserError: for anything else.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        west = south = east = north = np.nan
    on_map = on_earth(np.array([south, north]), np.array([west, east])).all()
    if not (on_map and west != east and south < north):
        raise UserError(f"--bbox is {text!r}; expected west,south,east,north in degrees, such as 9.18,45.46,9.19,45.47")
    if west > east and east + 360 - west > MOST_OVER_DATE_LINE_DEG:
        raise UserError(
            f"--bbox is {text!r}, whose west is east of its east; swap them. A box over the date line, such as "
            f"179.9,-17,-179.9,-16.9, may be at most {MOST_OVER_DATE_LINE_DEG} degrees wide"
        )
    west = -180.0 if west == 180 else west
    return west, south, east if west < east else east + 360, north


def tiles(box: Box, side: float = TILE_DEG) -> list[Box]:
    """Divide a box into boxes of at most ``side`` degrees."""
    west, south, east, north = box
    if west < 180 < east:
        return tiles((west, south, 180.0, north), side) + tiles((-180.0, south, east - 360, north), side)
    columns, rows = (max(1, int(np.ceil(span / side - 1e-9))) for span in (east - west, north - south))
    xs, ys = np.linspace(west, east, columns + 1), np.linspace(south, north, rows + 1)
    return [
        (float(xs[i]), float(ys[j]), float(xs[i + 1]), float(ys[j + 1])) for j in range(rows) for i in range(columns)
    ]


def fetch_area(area: Area, folder: Path, share_of_queries: float, seed: int, radius_m: float, api: str = API) -> Path:
    """Write ``images.csv`` and the images of an area into a folder.

    Args:
        area: The area.
        folder: Folder to write into.
        share_of_queries: Share of the images to use as queries; queries are whole drives past places of other drives.
        seed: Random seed for the choice of these drives.
        radius_m: Largest distance of a positive, in metres.
        api: Address of the server.

    Returns:
        The path of the table.

    Raises:
        UserError: if there is no token or no suitable image, or the server does not answer.
    """
    token = os.environ.get(TOKEN, "")
    if not token:
        raise UserError(f"Mapillary needs {LOGIN}")
    folder.mkdir(parents=True, exist_ok=True)
    rows = _chosen(_listed(area, folder, token, api), area)
    if rows.empty:
        raise UserError(f"Mapillary has no images of {','.join(map(str, area.box))} that fit; take a larger box")
    rows["split"] = split_by_drive(rows, share_of_queries, seed, radius_m)
    if not (rows["split"] == QUERIES).any():
        raise UserError(
            f"none of {rows['sequence'].nunique()} drives passes within {radius_m:g} m of another, so no query would "
            "have a positive; take a larger box, or an earlier date for --since"
        )
    _download(rows, folder, token, api)
    exists = [(folder / image).is_file() for image in rows["image"]]
    rows = rows[exists].drop(columns="url")
    (folder / TABLE).write_text(to_csv(rows), encoding="utf-8")
    return folder / TABLE


DATABASE, QUERIES = "street/database", "street/queries"


def split_by_drive(rows: pd.DataFrame, share_of_queries: float, seed: int, radius_m: float) -> NDArray[np.object_]:
    """Return ``street/queries`` or ``street/database`` for each image; a drive belongs to one of them as a whole.

    Drives are chosen at random as queries until they make up the requested share. A drive is eligible if at least half
    of its images have an image of the remaining database within the radius.

    Args:
        rows: Table with ``sequence, utm_east, utm_north, utm_zone``.
        share_of_queries, seed, radius_m: See ``fetch_area``.
    """
    positions = Positions.of(rows)
    nearby = near(positions, positions, radius_m)
    drive = rows["sequence"].to_numpy(dtype=object)
    is_query = np.zeros(len(rows), dtype=bool)
    for name in np.random.default_rng(seed).permutation(sorted(set(drive))):
        of_it = np.flatnonzero(drive == name)
        if is_query.sum() + len(of_it) > share_of_queries * len(rows) and is_query.any():
            continue
        left = ~is_query & (drive != name)
        if np.mean([left[nearby[k]].any() for k in of_it]) >= 0.5:
            # An earlier query must not lose its last positive.
            others = np.flatnonzero(is_query)
            if all(left[nearby[k]].any() for k in others if (~is_query)[nearby[k]].any()):
                is_query[of_it] = True
        if is_query.sum() >= share_of_queries * len(rows):
            break
    return np.where(is_query, QUERIES, DATABASE).astype(object)


def _listed(area: Area, folder: Path, token: str, api: str) -> list[dict[str, Any]]:
    """Return all images of the area, box by box; the boxes of an interrupted run are not requested again."""
    path = folder / LISTED
    known: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    boxes = tiles(area.box)
    with progress(len(boxes), "asking Mapillary", "boxes") as bar:
        for box in boxes:
            key = ",".join(f"{side:.6f}" for side in box)
            if key not in known:
                known[key] = list(_images_of(box, token, api))
                with atomic_write(path) as part:
                    part.write_text(json.dumps(known), encoding="utf-8")
            bar.update()
    found = [image for box in boxes for image in known[",".join(f"{side:.6f}" for side in box)]]
    return list({image["id"]: image for image in found}.values())  # an image on a border is in two boxes


def _images_of(box: Box, token: str, api: str) -> Iterator[dict[str, Any]]:
    """Yield the images of a box; a box with more images than the API returns is divided into quarters."""
    text = ",".join(f"{side:.6f}" for side in box)
    found = images_in(_ask(f"{api}/images", {"bbox": text, "fields": FIELDS, "limit": str(MOST)}, token))
    side = max(box[2] - box[0], box[3] - box[1])
    if len(found) < MOST or side <= SMALLEST_DEG:
        yield from found
        return
    for quarter in tiles(box, side / 2 + 1e-9):
        yield from _images_of(quarter, token, api)


def images_in(answer: Any) -> list[dict[str, Any]]:
    """Return the images of an answer.

    Raises:
        UserError: if the answer does not have the form that the API documents.
    """
    images = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(images, list) or not all(isinstance(each, dict) and "id" in each for each in images):
        raise UserError("mapillary: the answer does not have the form of API v4")
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
    """Return rows of the suitable images, ordered by id, with positions and headings that Mapillary has computed."""
    rows: list[dict[str, Any]] = []
    for image in sorted(found, key=lambda image: str(image["id"])):
        with suppress(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError):  # malformed
            rows += _row(image, area)
    table = pd.DataFrame(rows)
    if not table.empty:
        table["sequence"] = drives_of(table)
        utm = to_utm(table["lat"].to_numpy(dtype=float), table["lon"].to_numpy(dtype=float))
        table = table.assign(**dict(zip(("utm_east", "utm_north", "utm_zone"), utm, strict=True)))
    return table


def drives_of(rows: pd.DataFrame) -> list[str]:
    """Return the drive of each image.

    Mapillary divides a drive into sequences, and a rig of cameras makes several sequences at a time. Images of one
    creator with less than an hour between them belong to one drive. If the creator is unknown, a sequence is a drive.

    Args:
        rows: Table with ``creator, sequence, timestamp``.
    """
    who = rows["creator"].where(rows["creator"] != "", rows["sequence"])
    ordered = pd.DataFrame({"who": who, "time": pd.to_datetime(rows["timestamp"], format="%Y%m%d%H%M%S")})
    ordered = ordered.sort_values(["who", "time"], kind="stable")
    begins = (ordered["who"] != ordered["who"].shift()) | (ordered["time"].diff() > pd.Timedelta(hours=1))
    number = begins.groupby(ordered["who"]).cumsum()
    return (ordered["who"] + "/" + number.astype(str)).reindex(rows.index).to_list()


def _row(image: dict[str, Any], area: Area) -> list[dict[str, Any]]:
    """Return the row of an image in a list, which is empty if the image is not suitable."""
    west, south, east, north = area.box
    geometry = image.get("computed_geometry") or image.get("geometry")
    if not geometry or not image.get("sequence") or (image.get("is_pano") and not area.panoramas):
        return []
    lon, lat = map(float, geometry["coordinates"])
    taken = datetime.fromtimestamp(image["captured_at"] / 1000, UTC)
    inside = west <= lon + 360 * (lon < west) <= east and south <= lat <= north
    if not inside or f"{taken:%Y%m%d%H%M%S}" < area.since or not str(image["id"]).isalnum():
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
    """Download the missing images. Addresses expire, so a new one is requested if the first is refused."""
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
            return f"{row['image']}: Mapillary gives no address for it"
        with atomic_write(target) as part:
            part.write_bytes(content)
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
    """Download an image; ``None`` if its address is empty or has expired."""
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
