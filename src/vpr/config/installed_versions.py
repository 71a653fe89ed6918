"""The versions of Python and of every installed package, which a result depends on."""

from __future__ import annotations

import importlib.metadata
import platform


def installed_versions() -> dict[str, str]:
    """Return versions by name: ``python`` first, then the packages in alphabetical order."""
    packages = {
        name.lower().replace("_", "-"): found.version
        for found in importlib.metadata.distributions()
        if (name := found.metadata["Name"]) is not None
    }
    return {"python": platform.python_version(), **dict(sorted(packages.items()))}
