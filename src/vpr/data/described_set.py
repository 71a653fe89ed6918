"""Images with their descriptors: what the extract stage hands to all later ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.data.arrays import create_array
from vpr.data.manifest import DATABASE, QUERY, Manifest, read_manifest, write_manifest


@dataclass(frozen=True)
class Described:
    """Manifest rows and their descriptors ``(number, D)``, row by row."""

    manifest: Manifest
    descriptors: NDArray[np.float32]

    @property
    def rows(self) -> pd.DataFrame:
        """The manifest's rows."""
        return self.manifest.rows

    def flush(self) -> None:
        """Write the descriptors to the disk."""
        if isinstance(self.descriptors, np.memmap):
            self.descriptors.flush()

    @property
    def paths(self) -> list[Path]:
        """Where each image is."""
        return [self.manifest.folder / image for image in self.rows["image"]]


@dataclass(frozen=True)
class DescribedSet:
    """One evaluation set with the descriptors of a model.

    Attributes:
        name: of the evaluation set.
        database, queries: its two parts.
        facts: ``image_height_px``, ``image_width_px`` and ``descriptor_dim``.
    """

    name: str
    database: Described
    queries: Described
    facts: dict[str, Any]

    @classmethod
    def create(cls, folder: Path, manifest: Manifest, set_name: str, facts: dict[str, Any]) -> DescribedSet:
        """A set on the disk whose descriptors, ``facts["descriptor_dim"]`` numbers each, are still to be filled in."""
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
        """Open a set that the extract stage left.

        Raises:
            UserError: if it is not there, or its descriptors are not those of its rows.
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
