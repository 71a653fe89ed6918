"""List the image files of a folder."""

from __future__ import annotations

import os
from pathlib import Path

from vpr.config.errors import UserError
from vpr.data.images import SUFFIXES

HIDDEN = (".", "__MACOSX")


def list_images(folder: Path) -> list[str]:
    """Return the sorted paths of the images below a folder, relative to it, without hidden files and folders.

    Raises:
        UserError: if a name is not in UTF-8, because tables could not hold it.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = os.stat(parent)  # noqa: PTH116
        if (here.st_dev, here.st_ino) in seen:  # a link to a parent folder
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        place = os.path.relpath(parent, folder).replace(os.sep, "/")
        start = "" if place == "." else f"{place}/"
        found += [
            start + name
            for name in files
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(HIDDEN)  # noqa: PTH122
        ]
    for image in found:
        if not _is_utf8(image):
            raise UserError(f"{folder}: the path {os.fsencode(image)!r} is not in UTF-8; rename the file or folder")
    return sorted(found)


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
