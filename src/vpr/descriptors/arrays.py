"""Arrays on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray


def create_array(path: Path, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """Create a memory-mapped ``.npy`` file with its space reserved.

    Raises:
        OSError: if the disk is too small. Without the reservation, a full disk would kill the process while the array
            is filled.
    """
    array = open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # macOS lacks it
        try:
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError:
            path.unlink()
            raise
    return array
