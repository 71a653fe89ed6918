"""Arrays on the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray


def create_array(path: Path, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """A ``.npy`` file to be filled in, for which the disk has the room.

    Raises:
        OSError: if it has not. Without asking first, a full disk would end the process in the middle of the filling.
    """
    array = open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        try:
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError:
            path.unlink()
            raise
    return array
