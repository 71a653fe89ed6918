"""Distinguish users' mistakes from bugs in vpr, and report both."""

from __future__ import annotations

import errno
import io
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vpr.config.end_with_dvc import end_with_dvc

# Errors of the machine that a user can put right, such as a full disk.
_LONGEST_MESSAGE = 2000  # characters of a message to print
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE}
# Messages of torch and concurrent.futures when one of their processes was killed or cannot be reached.
_RANK_LOST = re.compile(r"\bgloo\b|\bNCCL\b|ProcessGroup|DistBackendError")
_KILLED = re.compile(r"DataLoader worker .* (is killed by signal|exited unexpectedly)|process pool was terminated")


class UserError(Exception):
    """An error that the user can correct. The message says where, what is wrong, and what to do."""

    def __init__(self, message: str) -> None:
        # torch passes on an error of a loader process as a traceback that ends with the message.
        sent = re.search(r"\ACaught .*?Original Traceback.*?^[\w.]+: (.*)", message, re.DOTALL | re.MULTILINE)
        super().__init__(sent[1].strip() if sent else message)


def one_line(text: object, limit: int = 300) -> str:
    """Return a string as one line, cut after ``limit`` characters."""
    return " ".join(str(text).split())[:limit]


def printable(text: str) -> str:
    """Return a string whose control characters, which steer terminals and are not XML, are written as ``\\x1b``."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 photo`` or ``1,200 photos``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def run_stage(main: Callable[[], None]) -> None:
    """Call a stage's ``main`` and exit, with code 1 if it fails. The stage also ends when DVC does."""
    end_with_dvc()
    name = Path(sys.argv[0]).stem
    with _remembered_interrupt() as is_interrupted:

        def call() -> int:
            main()
            if is_interrupted.is_set():  # a library has swallowed the interrupt
                raise KeyboardInterrupt
            return 0

        sys.exit(exit_code(name, call, f"{name}: interrupted; the next `dvc repro` continues"))


@contextmanager
def _remembered_interrupt() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets, in addition to raising ``KeyboardInterrupt`` as usual."""
    came = threading.Event()

    def interrupt(*_: Any) -> None:
        came.set()
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def exit_code(name: str, call: Callable[[], int], interrupted: str) -> int:
    """Run a command and return its exit code.

    A ``UserError``, and an error of the machine such as a full disk, becomes one line; any other exception is a bug and
    keeps its traceback.

    Args:
        name: Name of the command in messages.
        call: The command; it returns the exit code.
        interrupted: Text to print after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError):  # some pipes raise it
            sys.stdout.reconfigure(errors="backslashreplace")  # file names can hold letters the terminal lacks
    try:
        return call()
    except UserError as error:
        print(f"{name}: {_shown(str(error))}", file=sys.stderr)
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return 130
    except Exception as error:
        refused = _refused_by_machine(error)
        if refused is None:
            return _bug(name)
        print(f"{name}: {refused}; finished work is kept; fix this and run the command again", file=sys.stderr)
    return 1


def _shown(message: str) -> str:
    """Return a message without what steers a terminal, and without the middle of a very long one."""
    plain = printable(message)
    if len(plain) <= _LONGEST_MESSAGE:
        return plain
    half = _LONGEST_MESSAGE // 2
    return f"{plain[:half]} ... {plain[-half:]} ({len(plain):,} characters)"


def _refused_by_machine(error: Exception) -> str | None:
    """Return the machine's reason, such as a full disk; ``None`` if the error has another cause."""
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch has its own class
        return f"out of memory: {error}; lower the batch sizes, or the image size"
    if _KILLED.search(str(error)):
        return (
            "a loader process was killed, most likely because the memory was full; lower num_workers or the batch sizes"
        )
    if _RANK_LOST.search(f"{type(error).__name__}: {error}"):
        return "another process of this training has ended or cannot be reached; its last output says why"
    return None


def _bug(name: str) -> int:
    traceback.print_exc()
    print(
        f"{name}: this is a bug in vpr, not a mistake of yours; please report it in the project's issue tracker, with "
        "the lines above and your params.yaml",
        file=sys.stderr,
    )
    return 1
