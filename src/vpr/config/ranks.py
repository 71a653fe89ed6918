"""The rank of this process among those that share one training, read from the launcher's environment variables."""

from __future__ import annotations

import os

_GLOBAL_RANK = ("RANK", "SLURM_PROCID")  # set by torchrun and by SLURM
_RANK_PARTS = ("NODE_RANK", "LOCAL_RANK")  # set by Lightning, for the machine and the process on it


def is_first_rank() -> bool:
    """Return whether this process is the first or only one, which writes files, tracks and shows progress."""
    for name in _GLOBAL_RANK:
        if name in os.environ:
            return os.environ[name] == "0"
    return all(os.environ.get(name, "0") == "0" for name in _RANK_PARTS)
