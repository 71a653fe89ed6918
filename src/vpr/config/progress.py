"""Progress of long work: a bar on a terminal, and a line every ten seconds elsewhere, such as in the log of CI."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from vpr.config.ranks import is_first_rank

LINE_EVERY_S = 10.0


class _Lines(tqdm):  # type: ignore[type-arg]
    """Writes each state on a new line, where a bar would overwrite the last one."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg != "":  # tqdm clears a bar with an empty message
            self.fp.write(f"{msg or self}\n")
            self.fp.flush()

    def close(self) -> None:
        if self.disable:
            return
        done = "in {elapsed}, {rate_noinv_fmt}" if self.n > self.initial else "were done before"
        self.bar_format = f"{{desc}}: {{n_fmt}}{{unit}} {done}{{postfix}}"
        self.leave = False  # otherwise tqdm would print a last line as well
        self.display()
        super().close()

    def clear(self, nolock: bool = False) -> None:
        """Do nothing: there is no bar to clear."""


def progress(total: int | None, title: str, unit: str, done: int = 0, **options: Any) -> tqdm:  # type: ignore[type-arg]
    """Return a counter that shows rate and remaining time on stderr.

    Args:
        total: Number of items; ``None`` if it is unknown.
        title: Short description of the work.
        unit: Name of the items, in the plural.
        done: Number of items that an interrupted run has finished before.
        options: Further arguments of tqdm.
    """
    shared: dict[str, Any] = {
        "total": total,
        "desc": title,
        "initial": done,
        "disable": not is_first_rank(),
        "unit": unit if options.get("unit_scale") else f" {unit}",
        **options,
    }
    if sys.stderr.isatty():
        return tqdm(**shared, mininterval=0.5, dynamic_ncols=True)
    line = "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {remaining} left{postfix}"
    return _Lines(**shared, mininterval=LINE_EVERY_S, delay=LINE_EVERY_S, bar_format=line)
