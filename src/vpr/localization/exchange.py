"""Descriptors and pairs of images in the files that hloc reads, and with it COLMAP.

https://github.com/cvg/Hierarchical-Localization. Descriptors: an HDF5 file with a group for each image, named as the
image is, that holds ``global_descriptor``. Pairs: a text file with a query and a database image a line, nearest first,
separated by a blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr.config.errors import UserError
from vpr.data.files import list_images
from vpr.data.loading import ImageList
from vpr.model.checkpoint import load_checkpoint
from vpr.model.device import pick_device
from vpr.model.extraction import extract
from vpr.retrieval.search import search

GLOBAL = "global_descriptor"


def describe_folder(folder: Path, checkpoint: Path, batch_size: int | None) -> tuple[list[str], NDArray[np.float32]]:
    """Names of all images below a folder, and their descriptors ``(number, D)``.

    Raises:
        UserError: if there is none, or one can't be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names = list_images(folder)
    if not names:
        raise UserError(f"{folder}: no images in it")
    model, _ = load_checkpoint(checkpoint)
    descriptors = np.empty((len(names), model.descriptor_dim), dtype=np.float32)
    images = ImageList(folder, names, model.spec.preprocess())
    extract(model, images, descriptors, pick_device("auto"), batch_size, title=f"describing {folder.name}")
    return names, descriptors


def write_descriptors(path: Path, names: Sequence[str], descriptors: NDArray[np.float32]) -> None:
    """Write what hloc's ``extract_features`` would; whole or not at all.

    Raises:
        UserError: for a name that HDF5 has no group for.
    """
    import h5py  # takes a while to import

    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with h5py.File(part, "w") as file:
            for name, descriptor in zip(names, descriptors, strict=True):
                file.create_dataset(f"{name}/{GLOBAL}", data=descriptor)
        part.replace(path)
    except ValueError as error:  # such as a.jpg beside a folder of that name
        raise UserError(f"{path}: {name!r} can't be a name in HDF5: {error}") from None
    finally:
        part.unlink(missing_ok=True)


def nearest_pairs(
    queries: tuple[Sequence[str], NDArray[np.float32]],
    database: tuple[Sequence[str], NDArray[np.float32]] | None,
    k: int,
) -> list[tuple[str, str]]:
    """Each query with its ``k`` nearest database images, nearest first.

    Args:
        queries, database: names and descriptors; without a database, the queries among themselves, none with itself.
    """
    names, descriptors = queries
    others, theirs = database or queries
    ranking, _ = search(theirs, descriptors, k if database else k + 1)
    pairs = []
    for row, name in enumerate(names):
        found = [others[j] for j in ranking[row] if database or j != row][:k]
        pairs += [(name, other) for other in found]
    return pairs


def write_pairs(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Write a pair a line.

    Raises:
        UserError: for a name with a blank, which the format has no place for.
    """
    odd = next((name for pair in pairs for name in pair if len(name.split()) != 1), None)
    if odd is not None:
        raise UserError(f"{odd!r}: the format of pairs separates names by a blank; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{one} {other}\n" for one, other in pairs), encoding="utf-8")
