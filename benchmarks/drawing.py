"""Time the embedded city's renderer on one core: images per second, and against the budget of 25 s for 1,000.

Run: PYTHONPATH=src python benchmarks/drawing.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import yaml

BUDGET_S = 25.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--height", type=int, default=120)
    args = parser.parse_args()
    from vpr.sources.synthetic import SyntheticParams, photos

    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    images = content["datasets"]["synthetic"]["images"]
    params = SyntheticParams(**{**images, "width": args.width, "height": args.height, "variety": 1.0})
    shots = photos.plan(params)[:: max(1, len(photos.plan(params)) // args.images)][: args.images]
    with tempfile.TemporaryDirectory() as folder:
        photos._take((params, Path(folder), shots[:2]))  # compile first
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
        started = time.perf_counter()
        photos._take((params, Path(folder) / "timed", shots))
        seconds = time.perf_counter() - started
    per_thousand = 1000 * seconds / len(shots)
    print(f"{len(shots)} images of {args.width}x{args.height} px on one core: {seconds:.1f} s")
    print(f"1,000 images: {per_thousand:.1f} s, {per_thousand / BUDGET_S:.2f} of the budget of {BUDGET_S:.0f} s")


if __name__ == "__main__":
    main()
