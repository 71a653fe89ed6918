"""End a stage when the DVC that runs it has ended, and end the other ranks with the first.

Otherwise an orphaned stage would keep running unnoticed and write beside the next ``dvc repro``.
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
    """Watch the process that runs this stage from a thread; outside DVC, do nothing.

    The stage exits at once, as if it had been killed. Every stage survives that.
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
    if process is None or _adopts_orphans(process):  # the process was killed while this one started
        _end(name)
    threading.Thread(target=_watch, args=(process, name), daemon=True).start()


def _is_dvc(process: psutil.Process) -> bool:
    """Return whether a process is DVC, and not the shell in which DVC starts a stage."""
    try:
        return any(os.path.basename(word) in ("dvc", "dvc.exe") for word in process.cmdline()[:3])  # noqa: PTH119
    except psutil.Error:
        return False


def _adopts_orphans(process: psutil.Process) -> bool:
    """Return whether the operating system makes this process the parent of orphans."""
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
    with suppress(OSError):  # the reader of stderr may be gone
        print(f"{name} has ended, so this stage ends too; the next `dvc repro` continues", file=sys.stderr, flush=True)
    os._exit(130)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
