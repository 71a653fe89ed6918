"""List the image files of a folder."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vpr.config.errors import UserError, counted
from vpr.data.images import suffixes

# Thumbnails and deleted files of systems, in lower case.
SYSTEM_FOLDERS = {
    "__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@__thumb", "@tmp", "$recycle.bin",
    "system volume information", "lost+found",
}  # fmt: skip
_SHOWN = 6  # kinds of left-out files in a message


def list_images(folder: Path) -> list[str]:
    """Return the sorted paths of the images below a folder, relative to it, without hidden files and folders.

    Links to folders are followed, unless they lead to a folder that holds them.

    Raises:
        UserError: if a name is not in UTF-8, because tables could not hold it.
    """
    return _images_and_others(folder)[0]


def list_own_images(folder: Path) -> list[str]:
    """Return what ``list_images`` does, and print which files of the folder are left out."""
    images, others = _images_and_others(folder)
    if others:
        kinds = [counted(number, kind) for kind, number in others.most_common(_SHOWN)]
        kinds += ["others"] * (len(others) > _SHOWN)
        print(f"{folder}: left out: {', '.join(kinds)}", file=sys.stderr)
        if {".heic file", ".heif file"} & set(others):
            print("HEIC photos need the package pillow-heif: run `make setup-photos`", file=sys.stderr)
    return images


def _images_and_others(folder: Path) -> tuple[list[str], Counter[str]]:
    """Return the images, and how many files of each other suffix and hidden folders there are."""
    images, others, readable = [], Counter[str](), suffixes()
    for path, is_folder in _walk(str(folder), "", frozenset()):
        name = path.rpartition("/")[2]
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
        if is_folder:
            others["hidden folder" if name.startswith(".") else f"{name} folder"] += 1
        elif suffix in readable and not name.startswith("."):
            images.append(path)
        elif not name.startswith("."):
            others[f"{suffix or 'other'} file"] += 1
    for image in images:
        if not _is_utf8(image):
            raise UserError(f"{folder}: the path {os.fsencode(image)!r} is not in UTF-8; rename the file or folder")
    return sorted(images), others


def _walk(folder: str, start: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """Yield the path of each file, and of each hidden folder, which is not entered."""
    here = os.stat(folder)  # noqa: PTH116
    if (here.st_dev, here.st_ino) in above:  # a link to a folder that holds it
        return
    above |= {(here.st_dev, here.st_ino)}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:  # a chain of links that never ends
                is_folder = False
            if not is_folder:
                yield start + entry.name, False
            elif is_hidden(entry.name):
                yield start + entry.name, True
            else:
                yield from _walk(entry.path, f"{start}{entry.name}/", above)


def is_hidden(folder: str) -> bool:
    """Return whether a folder's name says that its images are thumbnails, deleted or hidden."""
    return folder.startswith(".") or folder.lower() in SYSTEM_FOLDERS


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
