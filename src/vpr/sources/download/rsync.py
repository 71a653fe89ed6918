"""Fetch folders by rsync, which continues where an interrupted run stopped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from vpr.config.errors import UserError, one_line
from vpr.sources.download.addresses import redacted

_TIMEOUT_S = 120  # without any data


def fetch_rsync(where: str, url: str, folder: Path) -> None:
    """Copy the folder of an ``rsync://`` address into a local folder.

    Args:
        where: Key in error messages.
        url: Address of the folder.
        folder: Folder to write into; files that it has already are compared by size and time.

    Raises:
        UserError: if rsync is not installed or fails; what was copied is kept.
    """
    program = shutil.which("rsync")
    if program is None:
        raise UserError(
            f"{where}.url is {redacted(url)}, which needs the program rsync: install it, for example by `apt install "
            "rsync` or `brew install rsync`, or copy the folder yourself and set the url to file:// and its path"
        )
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--recursive", "--times", "--partial", "--info=progress2", f"--timeout={_TIMEOUT_S}"]
    command = [program, *options, "--no-links", "--", f"{url.rstrip('/')}/", str(folder)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"{where}.url: rsync of {redacted(url)} ended with {done.returncode}: {one_line(done.stderr)}; run again "
            "to continue"
        )
