"""An evaluation set with its descriptors, which the extract stage writes and all later stages read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.data.manifest import DATABASE, QUERY, Manifest, read_manifest, write_manifest
from vpr.descriptors.arrays import create_array


@dataclass(frozen=True)
class Described:
    """Images with their descriptors.

    Attributes:
        manifest: Manifest of the images.
        descriptors: Descriptors ``(number, D)``, one for each row of the manifest.
    """

    manifest: Manifest
    descriptors: NDArray[np.float32]

    @property
    def rows(self) -> pd.DataFrame:
        """The manifest's rows."""
        return self.manifest.rows

    def flush(self) -> None:
        """Write the descriptors to disk."""
        if isinstance(self.descriptors, np.memmap):
            self.descriptors.flush()

    @property
    def paths(self) -> list[Path]:
        """Paths of the images."""
        return [self.manifest.folder / image for image in self.rows["image"]]


@dataclass(frozen=True)
class DescribedSet:
    """An evaluation set with the descriptors of a model.

    Attributes:
        name: Name of the evaluation set.
        database, queries: The two parts of the set.
        facts: Dictionary with ``image_height_px``, ``image_width_px`` and ``descriptor_dim``.
    """

    name: str
    database: Described
    queries: Described
    facts: dict[str, Any]

    @classmethod
    def create(cls, folder: Path, manifest: Manifest, set_name: str, facts: dict[str, Any]) -> DescribedSet:
        """Create a set on disk. Its descriptors, with ``facts["descriptor_dim"]`` numbers each, are filled in later."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = []
        for part, role in (("database", DATABASE), ("queries", QUERY)):
            rows = Manifest(manifest.name, manifest.root, manifest.part(set_name, role))
            write_manifest(rows, folder / f"{part}.parquet")
            shape = (len(rows.rows), int(facts["descriptor_dim"]))
            parts.append(Described(rows, create_array(folder / f"{part}.npy", shape)))
        (folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        return cls(set_name, parts[0], parts[1], facts)

    @classmethod
    def load(cls, folder: Path) -> DescribedSet:
        """Open a set that the extract stage wrote.

        Raises:
            UserError: if it is missing, or has another number of descriptors than images.
        """
        if not (folder / "facts.json").is_file():
            raise UserError(f"{folder}: no descriptors; run `dvc repro extract` first")
        parts = []
        for part in ("database", "queries"):
            manifest = read_manifest(folder / f"{part}.parquet")
            descriptors = np.load(folder / f"{part}.npy", mmap_mode="r")
            if len(descriptors) != len(manifest.rows):
                raise UserError(
                    f"{folder}: {len(descriptors)} descriptors for {len(manifest.rows)} images of {part}; run "
                    "`dvc repro --force extract` again"
                )
            parts.append(Described(manifest, descriptors))
        return cls(folder.name, parts[0], parts[1], json.loads((folder / "facts.json").read_text(encoding="utf-8")))
