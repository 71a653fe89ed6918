"""Find the project, whose data and MLflow store all its experiments share, and its commit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from vpr.config.errors import UserError

_PACKAGE = Path(__file__).resolve()
_PARTS = ("dvc.yaml", "params.yaml", "src/vpr")


def main_root() -> Path:
    """Return the project's main folder: for a DVC experiment's temporary copy, that of the repository itself.

    DVC sets ``DVC_ROOT`` to the main repository for every stage, but a shell can pass on the ``DVC_ROOT`` of another
    project, so it is used only if this package lies under it.
    """
    dvc_root = os.environ.get("DVC_ROOT")
    if dvc_root and Path(dvc_root).resolve() in _PACKAGE.parents:
        return Path(dvc_root).resolve()
    return find_project(Path.cwd()) or _PACKAGE.parents[3]


def find_project(folder: Path) -> Path | None:
    """Find the nearest vpr project at or above a folder; other DVC projects, which lack ``src/vpr``, do not count."""
    folder = folder.resolve()
    return next((p for p in (folder, *folder.parents) if all((p / part).exists() for part in _PARTS)), None)


def data_root() -> Path:
    """Return the folder of the image folders: ``$DATA_ROOT``, or ``data/images`` of the main repository."""
    return Path(os.environ.get("DATA_ROOT") or main_root() / "data" / "images").resolve()


def resolve_root(root: str) -> Path:
    """Return the folder that a manifest's ``root`` stands for.

    ``data:<name>`` lies under ``data_root()``, ``project:<path>`` is relative to the main repository, and
    ``file:<path>`` names a file in the working directory that contains a root. Anything else is an absolute path.

    Raises:
        UserError: if the file of a ``file:`` root is missing.
    """
    kind, _, rest = root.partition(":")
    if kind == "file":
        if not Path(rest).is_file():
            raise UserError(f"{rest}: not found, so the image folder is unknown; run `dvc repro download`")
        return resolve_root(Path(rest).read_text(encoding="utf-8").strip())
    if kind == "data":
        return data_root() / rest
    if kind == "project":
        return (main_root() / rest).resolve()
    return Path(root)


def git_commit() -> str:
    """Return the current commit, with ``+changes`` if parameters or code differ from it; ``unknown`` outside git."""
    try:
        # A run itself rewrites dvc.lock and metrics, which does not change what runs.
        changes = _git("status", "--porcelain", "-uno", "--", ".", ":!dvc.lock", ":!metrics")
        return _git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def committed(path: Path) -> str:
    """Return the committed content of a file of the working directory; empty if it is not committed."""
    try:
        return _git("show", f"HEAD:./{path.as_posix()}")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()
