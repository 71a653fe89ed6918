"""Photos with positions -> an index to locate others in.

Positions are in a table, in the file names (the standard VPR naming) or in the EXIF GPS tags.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import ExifTags, Image

from vpr.config.errors import UserError
from vpr.config.progress import progress
from vpr.data.checksums import file_sha256
from vpr.data.coordinates import on_earth, to_degrees, to_utm
from vpr.data.files import list_images
from vpr.data.images import FORMATS
from vpr.data.loading import ImageList
from vpr.data.names import parse_name
from vpr.localization.confidence import Calibration
from vpr.localization.index import Index, IndexFacts, load_index
from vpr.localization.lance_index import LanceIndex, ToLance, packed
from vpr.localization.photos import from_file, read_photo
from vpr.model.checkpoint import load_checkpoint
from vpr.model.device import pick_device
from vpr.model.extraction import extract
from vpr.model.vpr_model import VPRModel

DEFAULT_RADIUS_M = 25.0  # of the field
PIECE = 4096  # photos that are added to LanceDB at a time
MANY = 0.02  # of an index: so many new photos are worth tidying it up, which takes a minute for a million


def gps_position(path: Path) -> tuple[float, float] | None:
    """Latitude and longitude of a photo's EXIF GPS tags, in degrees; ``None`` if it has none or broken ones."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            gps = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        values = []
        for angle, reference, negative in (
            (ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S"),
            (ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W"),
        ):
            degrees, minutes, seconds = (float(v) for v in gps[angle])
            sign = -1 if str(gps.get(reference, "")).strip().upper() == negative else 1
            values.append(sign * (degrees + minutes / 60 + seconds / 3600))
    except Exception:  # tags are broken in many ways
        return None
    return values[0], values[1]


def located_photos(folder: Path, listed: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rows of the photos whose position is known; how many are left out is said.

    Args:
        listed: ``image`` and what a table says of each; ``None`` for all images below the folder.

    Raises:
        UserError: if there is no photo with a position.
    """
    rows, broken = [], []
    known = {} if listed is None else {row["image"]: row for row in listed.to_dict("records")}
    names = list_images(folder) if listed is None else list(known)
    for name in _counted(names):
        try:
            read_photo(from_file(folder / name), name)
        except UserError:
            broken.append(name)
            continue
        listed_of = known.get(name, {})
        rows.append({**listed_of, "image": name, **_known(folder / name, listed_of)})
    if broken:
        print(
            f"{len(broken)} files can't be read as images and are left out, starting with {broken[0]}", file=sys.stderr
        )
    if not rows:
        raise UserError(f"{folder}: no images in it that can be read")
    table = pd.DataFrame(rows)
    lat, lon = (table[key].to_numpy(dtype=float) for key in ("lat", "lon"))
    to_do = np.flatnonzero((table["utm_zone"] == "").to_numpy() & on_earth(lat, lon))
    for column, values in zip(("utm_east", "utm_north", "utm_zone"), to_utm(lat[to_do], lon[to_do]), strict=True):
        table.loc[table.index[to_do], column] = values
    east, north = (table[key].to_numpy(dtype=float) for key in ("utm_east", "utm_north"))
    sound = np.isfinite(to_degrees(east, north, table["utm_zone"].to_list())[0])
    table.loc[~sound, "utm_zone"] = ""  # no zone on earth
    unknown = table.loc[table["utm_zone"] == "", "image"].to_list()
    if len(unknown) == len(table):
        raise UserError(
            f"{folder}: none of {len(table)} images says where it was taken; give a table with lat and lon or with "
            "utm_east, utm_north and utm_zone, name them in the standard VPR naming, or keep their EXIF GPS tags, for "
            f"example {unknown[0]}"
        )
    if unknown:
        print(f"{len(unknown)} photos without a position are left out, starting with {unknown[0]}", file=sys.stderr)
    return table[table["utm_zone"] != ""].reset_index(drop=True)


def _counted(names: list[str]) -> Iterator[str]:
    with progress(len(names), "reading", "photos") as bar:
        for name in names:
            yield name
            bar.update()


def _known(path: Path, listed: dict[str, Any]) -> dict[str, Any]:
    """What the table says of a photo, where that gives no position its name, and then its EXIF tags."""
    row: dict[str, Any] = {"utm_east": np.nan, "utm_north": np.nan, "utm_zone": "", "lat": np.nan, "lon": np.nan}
    row |= {"place_id": "", "heading": np.nan, "timestamp": ""}
    row |= {column: listed[column] for column in row if column in listed}
    if row["utm_zone"] or np.isfinite(row["utm_east"]):
        return row
    try:
        name = parse_name(path.name)
        row |= {"heading": name.heading} if not np.isfinite(row["heading"]) else {}
        row |= {"timestamp": name.timestamp} if not row["timestamp"] else {}
        if name.utm_east is not None and name.utm_north is not None and name.utm_zone:
            return row | {"utm_east": name.utm_east, "utm_north": name.utm_north, "utm_zone": name.utm_zone}
        if name.lat is not None and name.lon is not None:
            return row | {"lat": name.lat, "lon": name.lon}
    except ValueError:
        pass
    position = gps_position(path)
    return row if position is None else row | {"lat": position[0], "lon": position[1]}


def index_photos(
    folder: Path,
    checkpoint: Path,
    out: Path,
    calibrated: Path | None,
    radius_m: float | None,
    batch_size: int | None,
    listed: pd.DataFrame | None = None,
) -> Index:
    """Describe the photos of a folder and write an index.

    Args:
        checkpoint: of the model.
        out: folder to write.
        calibrated: an index of the same model whose calibration is taken over; ``None`` for none.
        radius_m: two photos within it show the same place; ``None`` for that of ``calibrated``.
        batch_size: photos described at a time; ``None`` for as many as suit the device.
        listed: see ``located_photos``.

    Raises:
        UserError: if no photo has a position, ``calibrated`` is of another model or another radius, the radius is none,
            or ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for --out")
    model, _ = load_checkpoint(checkpoint)
    facts, calibration = _facts(folder, checkpoint, calibrated, radius_m)
    rows = located_photos(folder, listed)
    index = Index(_described(model, folder, rows, batch_size, "describing"), rows, facts, calibration)
    index.save(out)
    return index


def add_photos(
    folder: Path,
    checkpoint: Path,
    where: str,
    calibrated: Path | None,
    radius_m: float | None,
    batch_size: int | None,
    listed: pd.DataFrame | None = None,
    engine: str = "local",
) -> tuple[LanceIndex, int]:
    """Describe the photos of a folder that an index in LanceDB has not, and add them; it is made if it is not there.

    They are added in pieces, so that a run that was interrupted goes on where it stopped. For the rest see
    ``index_photos``.

    Args:
        where: folder or address of the index.
        engine: ``local``, or ``ray``, whose machines each add what they have described.

    Returns:
        The index, and how many photos are new.

    Raises:
        UserError: as ``index_photos``, and if the index is of another model.
    """
    model, _ = load_checkpoint(checkpoint)
    rows = located_photos(folder, listed)
    if LanceIndex.is_at(where):
        index = LanceIndex(where)
        if index.facts.model_sha256 != file_sha256(checkpoint):
            raise UserError(f"{where} was described by another model than {checkpoint}; name another place for --out")
        rows = rows[~rows["image"].isin(index.images())].reset_index(drop=True)
    else:
        facts, calibration = _facts(folder, checkpoint, calibrated, radius_m)
        index = LanceIndex.create(where, facts, calibration, rows, model.descriptor_dim)
    pieces = [rows.iloc[start : start + PIECE] for start in range(0, len(rows), PIECE)]
    if engine == "ray":
        from vpr.model.ray_extraction import describe_shards

        shards = [
            {"shard": k, "images": piece["image"].to_list(), "rows": packed(piece)} for k, piece in enumerate(pieces)
        ]
        address = where if "://" in where else str(Path(where).resolve())
        images = ImageList(folder.resolve(), rows["image"], model.spec.preprocess())
        describe_shards(shards, checkpoint, images, ToLance(address), "auto", batch_size, "describing")
        index, pieces = LanceIndex(where), []  # as it is now
    for number, piece in enumerate(pieces):
        start = number * PIECE
        title = f"describing, photos {start + 1} to {start + len(piece)} of {len(rows)}"
        index.add(piece, _described(model, folder, piece, batch_size, title))
    if len(rows) > MANY * len(index):
        index.bring_up_to_date()
    return index, len(rows)


def _facts(
    folder: Path, checkpoint: Path, calibrated: Path | None, radius_m: float | None
) -> tuple[IndexFacts, Calibration | None]:
    if radius_m is not None and not 0 < radius_m < math.inf:
        raise UserError(f"--radius-m is {radius_m:g}; expected metres above 0")
    sha256, calibration = file_sha256(checkpoint), None
    if calibrated is not None:
        other = load_index(calibrated)
        if other.facts.model_sha256 != sha256:
            raise UserError(
                f"{calibrated} belongs to another model than {checkpoint}, so its confidence does not apply"
            )
        learnt_m = other.facts.radius_m
        if radius_m not in (None, learnt_m):
            raise UserError(
                f"the confidence in {calibrated} is for {learnt_m:g} m, not {radius_m:g}; leave out --radius-m"
            )
        calibration, radius_m = other.calibration, learnt_m
    assert radius_m is not None, "one of the two gives it"
    return IndexFacts(sha256, "", str(folder), radius_m), calibration


def _described(
    model: VPRModel, folder: Path, rows: pd.DataFrame, batch_size: int | None, title: str
) -> NDArray[np.float32]:
    images = ImageList(folder, rows["image"], model.spec.preprocess())
    descriptors = np.empty((len(images), model.descriptor_dim), dtype=np.float32)
    extract(model, images, descriptors, pick_device("auto"), batch_size, title=title)
    return descriptors
