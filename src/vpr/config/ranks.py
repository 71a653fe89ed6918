"""Which of the processes that do one piece of work together this one is, as their launcher says in the environment."""

from __future__ import annotations

import os

_OF_ALL = ("RANK", "SLURM_PROCID")  # torchrun's and SLURM's
_OF_A_MACHINE = ("NODE_RANK", "LOCAL_RANK")  # Lightning's own, for machine and process


def is_first_rank() -> bool:
    """Whether this process is the first or the only one: the one that writes, tracks and shows progress."""
    for name in _OF_ALL:
        if name in os.environ:
            return os.environ[name] == "0"
    return all(os.environ.get(name, "0") == "0" for name in _OF_A_MACHINE)
