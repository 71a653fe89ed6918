"""Write descriptors and pairs of images in the formats that hloc and COLMAP read.

hloc is at https://github.com/cvg/Hierarchical-Localization. Its descriptors are an HDF5 file with a group for each
image, which is named after the image and holds ``global_descriptor``. Its pairs are a text file in which each line
names a query and a database image, separated by a space, nearest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr.config.atomic_files import atomic_write
from vpr.config.errors import UserError
from vpr.descriptors.trained_model import Model
from vpr.retrieval.search import search
from vpr.sources.image_files import list_own_images

GLOBAL = "global_descriptor"


def photo_names(folder: Path) -> list[str]:
    """Return the names of all images below a folder.

    Raises:
        UserError: if there is no image.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names = list_own_images(folder)
    if not names:
        raise UserError(f"{folder}: no images in it")
    return names


def describe_photos(folder: Path, names: Sequence[str], model: Model) -> NDArray[np.float32]:
    """Return the descriptors ``(number, D)`` of images of a folder.

    Raises:
        UserError: if an image cannot be read.
    """
    title = f"describing {folder.name}"
    return model.describe(model.images(folder, names), show_progress=True, num_workers=None, title=title)


def write_descriptors(path: Path, names: Sequence[str], descriptors: NDArray[np.float32]) -> None:
    """Write descriptors as hloc's ``extract_features`` does.

    Raises:
        UserError: if a name cannot be the name of a group in HDF5.
    """
    import h5py  # slow to import

    try:
        with atomic_write(path) as part, h5py.File(part, "w") as file:
            for name, descriptor in zip(names, descriptors, strict=True):
                file.create_dataset(f"{name}/{GLOBAL}", data=descriptor)
    except ValueError as error:  # such as a.jpg beside a folder of that name
        raise UserError(f"{path}: {name!r} cannot be a name in HDF5: {error}") from None


def nearest_pairs(
    queries: tuple[Sequence[str], NDArray[np.float32]],
    database: tuple[Sequence[str], NDArray[np.float32]] | None,
    k: int,
) -> list[tuple[str, str]]:
    """Pair each query with its ``k`` nearest database images, nearest first.

    Args:
        queries, database: Names and descriptors. Without a database, the queries are paired among themselves.
        k: Number of images to pair with each query.
    """
    names, descriptors = queries
    others, theirs = database or queries
    ranking, _ = search(theirs, descriptors, k if database else k + 1)
    pairs = []
    for row, name in enumerate(names):
        found = [others[j] for j in ranking[row] if database or j != row][:k]
        pairs += [(name, other) for other in found]
    return pairs


def check_pair_names(names: Sequence[str]) -> None:
    """Refuse names that the format of pairs cannot hold, because it separates two names by a space."""
    odd = next((name for name in names if len(name.split()) != 1), None)
    if odd is not None:
        raise UserError(f"{odd!r}: the format of pairs separates names by a space; rename this image")


def write_pairs(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Write one pair per line; see ``check_pair_names``."""
    with atomic_write(path) as part:
        part.write_text("".join(f"{one} {other}\n" for one, other in pairs), encoding="utf-8")
