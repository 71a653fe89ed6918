"""A database of described photos, to locate others in.

An index is a folder: ``descriptors.npy`` ``(number, D)``, ``images.parquet`` with a row for each of them, and
``index.json`` with the model's hash, what the images are and the calibration. The ``index`` stage leaves one of a run,
``vpr index`` builds one from a folder of photos.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.localization.confidence import Calibration

INDEX_COLUMNS = ["image", "utm_east", "utm_north", "utm_zone", "place_id", "heading", "timestamp"]


@dataclass(frozen=True)
class Index:
    """A database to locate photos in.

    Attributes:
        descriptors: ``(number, D)``, rows of unit norm.
        images: ``INDEX_COLUMNS`` of each.
        facts: ``model_sha256``, ``name``, ``radius_m``.
        calibration: ``None`` where it was not learnt.
    """

    descriptors: NDArray[np.float32]
    images: pd.DataFrame
    facts: dict[str, Any]
    calibration: Calibration | None

    def save(self, folder: Path) -> None:
        """Write the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "descriptors.npy", self.descriptors)
        self.images[INDEX_COLUMNS].reset_index(drop=True).to_parquet(folder / "images.parquet")
        content = {**self.facts, "calibration": self.calibration.as_dict() if self.calibration else None}
        (folder / "index.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_index(folder: Path) -> Index:
    """Read what ``Index.save`` wrote.

    Raises:
        UserError: if it is not such a folder.
    """
    files = [folder / name for name in ("descriptors.npy", "images.parquet", "index.json")]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"{folder}: no index, {', '.join(missing)} is not there; run `dvc repro index`, or `vpr index` for photos "
            "of your own"
        )
    facts = json.loads(files[2].read_text(encoding="utf-8"))
    known = facts.pop("calibration")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in (known or {}).items()}
    calibration = Calibration(**values) if known else None
    return Index(np.load(files[0], mmap_mode="r"), pd.read_parquet(files[1]), facts, calibration)
