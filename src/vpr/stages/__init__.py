"""One file for each stage of dvc.yaml: it parses, calls and writes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def run(main: Callable[[], None]) -> None:
    """Call a stage's ``main``; people's mistakes end in one clear message instead of a traceback."""
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
