"""Check whether the images of one place look alike, as training requires."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import rankdata

from vpr.data.images import open_image

NUM_PLACES, IMAGES_OF_A_PLACE = 200, 4
TINY_PX = (16, 12)
MIN_LIKENESS = 0.55  # 0.61 for the embedded city, 0.62 for windows of 5 frames of IE Tower, 0.50 for its floors
MIN_PAIRS = 60  # with fewer pairs, such values occur by chance


def place_likeness(folder: Path, train: pd.DataFrame) -> float | None:
    """Return how often two images of one place look more alike than two images of different places.

    Images of 200 places, at most 4 of each, are compared by the correlation of tiny grey pictures. Chance gives 0.5.

    Args:
        folder: Folder that image paths are relative to.
        train: Rows of the training images.

    Returns:
        A share from 0 to 1; ``None`` if too few places have several images.
    """
    sizes = train.groupby("place_id").size()
    places = sizes.index[sizes >= 2]
    chosen = places[_spread(len(places), NUM_PLACES)]
    tiny, place_of = [], []
    for number, (_, of_place) in enumerate(train[train["place_id"].isin(chosen)].groupby("place_id")["image"]):
        for image in of_place.iloc[_spread(len(of_place), IMAGES_OF_A_PLACE)]:
            tiny.append(_tiny(folder / image))
            place_of.append(number)
    if not tiny:
        return None
    pairs = np.triu_indices(len(tiny), 1)
    alike = (np.stack(tiny) @ np.stack(tiny).T)[pairs]
    is_same = (np.array(place_of)[:, None] == np.array(place_of))[pairs]
    same, other = int(is_same.sum()), int((~is_same).sum())
    if same < MIN_PAIRS or not other:
        return None
    above = rankdata(alike)[is_same].sum() - same * (same + 1) / 2  # Mann and Whitney's U
    return round(float(above / (same * other)), 3)


def same_drive(queries: pd.DataFrame, database: pd.DataFrame) -> float | None:
    """Return the share of queries whose drive (column ``sequence``) is in the database; ``None`` without drives.

    Successive frames of one drive look alike because of light, traffic and the car's bonnet, not only the place.
    """
    if "sequence" not in queries or "sequence" not in database:
        return None
    if "positive_frames" in queries and (queries["positive_frames"].fillna("") != "").any():
        return None  # frames of two walks along one route, not of one drive
    of_queries = queries["sequence"].fillna("").astype(str)
    known = of_queries != ""
    if not known.any():
        return None
    return round(float((known & of_queries.isin(set(database["sequence"].fillna("").astype(str)))).mean()), 4)


def cautions(statistics: dict[str, Any]) -> list[str]:
    """Return sentences about what keeps a model from learning, or makes recalls too high.

    Args:
        statistics: See ``vpr.verification.checks.Verified``.
    """
    likeness, num_wide = statistics["train"].get("place_likeness"), statistics["num_wide_places"]
    said = []
    if likeness is not None and likeness < MIN_LIKENESS:
        said.append(
            f"images of one training place look hardly more alike than those of two: in {100 * likeness:.0f} of 100 "
            "comparisons, where chance gives 50; a place should be one spot seen several times (docs/own-data.md)"
        )
    if num_wide:
        said.append(f"{num_wide:,} training place{'s are' if num_wide > 1 else ' is'} more than 50 m wide")
    for name, share in statistics.get("same_drive", {}).items():
        if share:
            said.append(
                f"{100 * share:.0f} % of the queries of {name} are from a drive that is in its database too, so its "
                "recalls are higher than those of another day"
            )
    return said


def _spread(number: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` indices, evenly spaced."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).astype(np.int64))


def _tiny(path: Path) -> NDArray[np.float64]:
    """Return a tiny grey picture without its mean, with unit norm."""
    grey = open_image(path).convert("L").resize(TINY_PX, Image.Resampling.BILINEAR)
    values = np.asarray(grey, dtype=np.float64).ravel()
    values -= values.mean()
    return values / (np.linalg.norm(values) + 1e-9)
