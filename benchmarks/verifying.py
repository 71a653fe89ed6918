"""Measure listing and verifying of a folder in GSV-Cities XS's layout, against decoding it in one process.

Images of 400x300 px are made once and linked under as many names as asked for.
Run: PYTHONPATH=src python benchmarks/verifying.py
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tabulate import tabulate

from vpr.data.manifest import write_manifest
from vpr.sources.base import Context
from vpr.sources.catalogue import SourceParams
from vpr.sources.collection import CollectionParams, collect
from vpr.sources.standard_naming import format_name
from vpr.verification.checks import verify

CITIES, PER_PLACE = 23, 8


def photo(rng: np.random.Generator) -> bytes:
    """A JPEG of about 30 KB, as detailed as a photo."""
    coarse = Image.fromarray(rng.integers(0, 256, (38, 50, 3), dtype=np.uint8)).resize(
        (400, 300), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse, dtype=np.int16) + rng.integers(-24, 25, (300, 400, 1), dtype=np.int16)
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def make(folder: Path, num_images: int, num_photos: int) -> None:
    """``train/<city>/<name>``, every photo linked under several names if there are fewer photos than images."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    for k in range(num_photos):
        (folder / "photos" / f"{k}").write_bytes(photo(rng))
    for city in range(CITIES):
        (folder / f"train/city{city:02d}").mkdir(parents=True)
    for k in range(num_images):
        city, place = k // PER_PLACE % CITIES, k // PER_PLACE // CITIES
        east, north = 300_000 + 100 * (place % 100), 4_900_000 + 100 * (place // 100)
        name = format_name(east, north, (32, "T"), rng.bytes(11).hex(), k % 360, "201907", f"{place}_City{city:02d}")
        os.link(folder / "photos" / f"{k % num_photos}", folder / f"train/city{city:02d}" / name)


def decode(path: Path) -> int:
    """Pixels of an image."""
    with Image.open(path) as image:
        image.load()
        return image.width * image.height


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--photos", type=int, default=20_000, help="different ones among them")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        os.environ["DATA_ROOT"] = str(root / "images")
        num_photos = min(args.photos, args.images)
        make(root / "set", args.images, num_photos)
        sample = [root / "set/photos" / f"{k}" for k in range(min(1000, num_photos))]
        decoding, _ = timed(lambda: sum(decode(path) for path in sample))
        decoding *= args.images / len(sample)
        params = CollectionParams(train=["gsv_xs"], eval_sets={}, cities=None, dates=None, share_of_places=1.0, seed=1)
        sources = {"gsv_xs": SourceParams(url=f"file://{root / 'set'}", layout="gsv_xs", folder="train")}
        listing_s, listing = timed(
            lambda: collect("gsv_xs", params, sources, Context(known_hashes=root / "known.json"))
        )
        writing_s, _ = timed(lambda: write_manifest(listing, root / "listing.parquet"))
        first_s, checked = timed(lambda: verify(listing, 25.0))
        again_s, _ = timed(lambda: verify(listing, 25.0))
        megabytes = (root / "listing.parquet").stat().st_size / 1e6
        mean_kb = checked.statistics["num_bytes"] / args.images / 1e3
    rows = [
        ["decode every image in one process (baseline)", decoding],
        ["download stage: list the folder", listing_s],
        ["write the listing", writing_s],
        ["verify, first time", first_s],
        ["verify, nothing changed", again_s],
    ]
    table = [[what, f"{s:.1f}", f"{s / decoding:.3f}"] for what, s in rows]
    result = {"num_images": args.images, "seconds": {what: round(s, 1) for what, s in rows}}
    Path("benchmarks/verifying.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{args.images:,} images of 400x300 px, {mean_kb:.0f} KB each, {os.cpu_count()} cores")
    print(f"the listing has {megabytes:.1f} MB")
    print(tabulate(table, headers=["", "seconds", "of the baseline"], disable_numparse=True))


if __name__ == "__main__":
    main()
