"""Progress of long work: a bar on a terminal, and a line now and then elsewhere, as in the log of CI or ``nohup``."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from vpr.config.ranks import is_first_rank

LINE_EVERY_S = 10.0


class _Lines(tqdm):  # type: ignore[type-arg]
    """Writes a line of its own where a bar would write over the last one."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg != "":  # which would wipe a bar
            self.fp.write(f"{msg or self}\n")
            self.fp.flush()

    def close(self) -> None:
        if self.disable:
            return
        done = "in {elapsed}, {rate_noinv_fmt}" if self.n > self.initial else "were done before"
        self.bar_format = f"{{desc}}: {{n_fmt}}{{unit}} {done}{{postfix}}"
        self.leave = False  # or a bar's last line would follow
        self.display()
        super().close()

    def clear(self, nolock: bool = False) -> None:
        """There is nothing to wipe."""


def progress(total: int | None, title: str, unit: str, done: int = 0, **options: Any) -> tqdm:  # type: ignore[type-arg]
    """Count something on stderr, with rate and time left.

    Args:
        total: how many there are; ``None`` if that is not known.
        title: what is done.
        unit: what is counted, in the plural.
        done: how many of them an interrupted run has done before.
        options: of tqdm.
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
