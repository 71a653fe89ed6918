"""Image files in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from vpr.data.images import SUFFIXES

HIDDEN = (".", "__MACOSX")


def list_images(folder: Path) -> list[str]:
    """Paths of the images below a folder, relative to it, sorted; hidden files and folders are left out."""
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = os.stat(parent)  # noqa: PTH116
        if (here.st_dev, here.st_ino) in seen:  # a link that leads back
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
    return sorted(found)
