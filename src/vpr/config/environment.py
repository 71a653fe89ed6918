"""What a result depends on beside the project's files: the versions of Python and of every package."""

from __future__ import annotations

import importlib.metadata
import platform


def installed_versions() -> dict[str, str]:
    """Versions by name: ``python`` first, then the packages in order."""
    packages = {
        name.lower().replace("_", "-"): found.version
        for found in importlib.metadata.distributions()
        if (name := found.metadata["Name"]) is not None
    }
    return {"python": platform.python_version(), **dict(sorted(packages.items()))}
