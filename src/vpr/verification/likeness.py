"""Whether images of one place look alike, as they must for a model to learn from them."""

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
MIN_PAIRS = 60  # of fewer, chance alone gives values like these


def place_likeness(folder: Path, train: pd.DataFrame) -> float | None:
    """How often two images of one place look more alike than two images of different places: 0.5 is chance.

    Images are compared as tiny grey pictures by their correlation, 200 places of at most 4 images each.

    Args:
        folder: that image paths start from.
        train: rows of the training images.

    Returns:
        ``None`` where there are too few places of several images to say.
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
    """Share of the queries whose drive, column ``sequence``, is in the database too; ``None`` without drives.

    Neighbouring frames of one drive look alike for other reasons than the place: light, traffic, the car's bonnet.
    """
    if "sequence" not in queries or "sequence" not in database:
        return None
    if "positive_frames" in queries and (queries["positive_frames"].fillna("") != "").any():
        return None  # frames of two walks along one route, which are in order and share no name of a drive
    of_queries = queries["sequence"].fillna("").astype(str)
    known = of_queries != ""
    if not known.any():
        return None
    return round(float((known & of_queries.isin(set(database["sequence"].fillna("").astype(str)))).mean()), 4)


def cautions(statistics: dict[str, Any]) -> list[str]:
    """What of a dataset keeps a model from learning, or makes a recall say more than it should, in sentences.

    Args:
        statistics: of ``vpr.verification.checks.Verified``.
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
    """Indices of at most so many items, spread over all."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).astype(np.int64))


def _tiny(path: Path) -> NDArray[np.float64]:
    """A tiny grey picture without its mean, of unit norm."""
    grey = open_image(path).convert("L").resize(TINY_PX, Image.Resampling.BILINEAR)
    values = np.asarray(grey, dtype=np.float64).ravel()
    values -= values.mean()
    return values / (np.linalg.norm(values) + 1e-9)
