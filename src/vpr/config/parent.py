"""A stage ends when the DVC that runs it has ended, however that was killed, and its ranks end with the first.

Otherwise it would go on unseen, and write beside the next ``dvc repro``.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

import psutil

from vpr.config.ranks import is_first_rank

EVERY_S = 0.5


def end_with_dvc() -> None:
    """Watch the process that runs this stage, from a thread; outside DVC do nothing.

    The stage ends at once, as if it had been killed itself, which every stage survives.
    """
    if not is_first_rank():
        _end_with(psutil.Process().parent(), "the first process of this training")
        return
    if "DVC_STAGE" not in os.environ:
        return
    ancestors = psutil.Process().parents()
    dvc = next((process for process in ancestors if _is_dvc(process)), ancestors[0] if ancestors else None)
    _end_with(dvc, "DVC")


def _end_with(process: psutil.Process | None, name: str) -> None:
    if process is None or _adopts_orphans(process):  # it was killed while this one started
        _end(name)
    threading.Thread(target=_watch, args=(process, name), daemon=True).start()


def _is_dvc(process: psutil.Process) -> bool:
    """Whether a process is DVC, and not the shell that DVC starts a stage in."""
    try:
        return any(os.path.basename(word) in ("dvc", "dvc.exe") for word in process.cmdline()[:3])  # noqa: PTH119
    except psutil.Error:
        return False


def _adopts_orphans(process: psutil.Process) -> bool:
    """Whether a process is where the children of dead ones go."""
    try:
        return process.pid == 1 or process.name() in ("systemd", "init", "launchd")
    except psutil.Error:
        return True


def _watch(process: psutil.Process, name: str) -> None:
    waiting = threading.Event()
    while _is_alive(process):
        waiting.wait(EVERY_S)
    _end(name)


def _end(name: str) -> NoReturn:
    with suppress(OSError):  # nobody may read any more
        print(f"{name} has ended, so this stage ends too; the next `dvc repro` continues", file=sys.stderr, flush=True)
    os._exit(130)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
