"""List the images of IE Tower: phone videos of 25 floors of one building, one frame a second.

Every fifth frame of a clip is a query. The source is https://github.com/JSebastianIEU/ie-tower-visual-place-recognition
(MIT): a folder with ``data/metadata/dataset.csv`` (``image_path, label, split``) and frames below ``data``, named
``<clip>_frame_<number>.jpg``. A label is a floor.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from vpr.config.errors import UserError
from vpr.data.manifest import DATABASE, QUERY, TRAIN
from vpr.sources.catalogue import SourceParams

TABLE = "metadata/dataset.csv"
FRAMES_PER_PLACE = 5  # a floor or a whole clip shows too many different scenes to be one place
HELD_OUT = 5  # every fifth clip is held out for validation
VALIDATED = (0, 3)  # frame numbers modulo 5 that are queries; the published queries are those with remainder 1
_COLUMNS = ("image_path", "label", "split")


def read_training(where: str, name: str, root: Path, source: SourceParams) -> tuple[Path, pd.DataFrame]:
    """List gallery frames as training images; a place is five successive frames. ``hold_out`` leaves clips out."""
    folder, frames = _frames(where, root)
    gallery = frames[frames["split"] == "gallery"]
    if source.hold_out:
        gallery = gallery[~_is_held_out(gallery)]
    window = (gallery["number"] - 1) // FRAMES_PER_PLACE
    place = [f"{name}/{clip}/{k}" for clip, k in zip(gallery["sequence"], window, strict=True)]
    return folder, _rows(gallery.assign(role=TRAIN, place_id=place, city=gallery["label"]))


def read_evaluation(where: str, name: str, root: Path, source: SourceParams) -> tuple[Path, pd.DataFrame]:
    """List gallery and queries as published; with ``hold_out`` the queries are gallery frames of held-out clips.

    The positives of a query are the database images of its floor.
    """
    del name
    folder, frames = _frames(where, root)
    if source.hold_out:
        frames = frames[frames["split"] == "gallery"]
        is_query = _is_held_out(frames) & frames["number"].mod(FRAMES_PER_PLACE).isin(VALIDATED)
    else:
        is_query = frames["split"] == "query"
    role = is_query.map({True: QUERY, False: DATABASE})
    return folder, _rows(frames.assign(role=role, place_id=frames["label"]))


def _is_held_out(frames: pd.DataFrame) -> pd.Series[bool]:
    clips = sorted(set(frames["sequence"]))
    return frames["sequence"].isin(clips[HELD_OUT - 1 :: HELD_OUT])


def _rows(frames: pd.DataFrame) -> pd.DataFrame:
    frames = frames.assign(image=frames["image_path"], problem="", timestamp=frames["number"].map("{:06d}".format))
    return frames.drop(columns=[*_COLUMNS, "number"]).reset_index(drop=True)


def _frames(where: str, root: Path) -> tuple[Path, pd.DataFrame]:
    """Return the folder of the paths, and the table with clip and number of each frame."""
    found = sorted(root.glob(f"**/{TABLE}"))
    if len(found) != 1:
        raise UserError(f"{where}.url: {root} holds {len(found)} files {TABLE}; expected one, as in the repository")
    try:
        table = pd.read_csv(found[0], dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas raises subclasses of these
        raise UserError(f"{found[0]}: cannot be read as a table: {error}") from None
    lacking = sorted(set(_COLUMNS) - set(table))
    if lacking:
        raise UserError(f"{found[0]}: no column {lacking[0]!r}; expected {', '.join(_COLUMNS)}")
    parts = table["image_path"].str.extract(r"([^/]+)_frame_(\d+)\.\w+$")
    wrong = table.loc[parts[0].isna(), "image_path"]
    if len(wrong):
        raise UserError(f"{found[0]}: {wrong.iloc[0]!r} is not named <clip>_frame_<number>")
    frames = table[[*_COLUMNS]].assign(sequence=parts[0], number=parts[1].astype(int))
    return found[0].parent.parent, frames
