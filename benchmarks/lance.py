"""An index in LanceDB of a million photos against FAISS: time, memory and what is found, into lance.json.

Photos are 10 to a place: a direction of the place, and half as much of the photo's own. Queries are another photo of
some places. Each search is measured in a process of its own, after one that warms up.

Run: PYTHONPATH=src python benchmarks/lance.py (`make setup-scale` before; 10 GB of disk)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate

from vpr.localization.index_files import IndexFacts
from vpr.serving.lance_index import LanceIndex

DIM, PIECE, NUM_QUERIES, K, OF_A_PLACE = 512, 50_000, 200, 10, 10
HOWS = ("FAISS flat", "FAISS IVF-PQ", "LanceDB, exact", "LanceDB, IVF_PQ")


def descriptors(first: int, number: int, photo: int = 0) -> NDArray[np.float32]:
    """Return descriptors of photos from ``first`` on; ``photo`` chooses other photos of the same places."""
    places, inverse = np.unique(np.arange(first, first + number) // OF_A_PLACE, return_inverse=True)
    centres = np.stack([np.random.default_rng(int(place)).standard_normal(DIM, np.float32) for place in places])
    rng = np.random.default_rng([first, photo])
    whole = centres[inverse] + 0.5 * rng.standard_normal((number, DIM), np.float32)
    return whole / np.linalg.norm(whole, axis=1, keepdims=True)


def rows(first: int, number: int) -> pd.DataFrame:
    """Return the rows of these photos."""
    rng = np.random.default_rng(first)
    table = pd.DataFrame({"image": [f"{k:08d}.jpg" for k in range(first, first + number)], "utm_zone": "32T"})
    table["utm_east"], table["utm_north"] = rng.uniform(3e5, 4e5, number), rng.uniform(49e5, 50e5, number)
    return table.assign(place_id="", heading=np.nan, timestamp="201907")


def queries(number: int) -> NDArray[np.float32]:
    """Other photos of some places."""
    chosen = np.random.default_rng(1).choice(number // OF_A_PLACE, NUM_QUERIES, replace=False) * OF_A_PLACE
    return np.concatenate([descriptors(int(first), 1, photo=1) for first in chosen])


def searched(how: str, folder: Path, number: int) -> dict[str, Any]:
    """Milliseconds of each query, and what it finds; and the memory that opening and searching took, in GiB."""
    asked = queries(number)
    before = most_memory_gib()
    if how.startswith("FAISS"):
        name = "flat" if how == "FAISS flat" else "ivfpq"
        opened: Any = faiss.read_index(str(folder / f"{name}.faiss"))
        if name == "ivfpq":
            opened.nprobe = 64
        find = lambda query: opened.search(query, K)[1][0].tolist()  # noqa: E731
    else:
        lance = LanceIndex(str(folder / "lance"), exact=how.endswith("exact"))
        find = lambda query: [int(name[:8]) for name in lance.search(query, K)[0].images["image"]]  # noqa: E731
    find(asked[:1])
    ms, found = [], []
    for k in range(NUM_QUERIES):
        began = time.perf_counter()
        found.append(find(asked[k : k + 1]))
        ms.append(1000 * (time.perf_counter() - began))
    memory = most_memory_gib() - before
    return {"p50_ms": float(np.median(ms)), "p99_ms": float(np.percentile(ms, 99)), "gib": memory, "found": found}


def most_memory_gib() -> float:
    """The most that this program has taken; what ``resource`` says begins with that of the program that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="scratch folder; a temporary one by default")
    parser.add_argument("--search-one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.search_one:
        print(json.dumps(searched(args.search_one, args.folder, args.photos)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        result = measured(Path(scratch), args.photos)
    Path("benchmarks/lance.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(tabulate(result["searches"], headers="keys", floatfmt=".3f"))
    print(json.dumps(result["seconds"], indent=2))


def measured(folder: Path, number: int) -> dict[str, Any]:
    """Build and search all of them."""
    seconds: dict[str, float] = {}

    def timed(what: str, began: float) -> None:
        seconds[what] = round(time.perf_counter() - began, 1)
        print(f"{what}: {seconds[what]} s", flush=True)

    spent = dict.fromkeys(("flat", "lance"), 0.0)
    flat, lance = faiss.IndexFlatL2(DIM), None
    sample = []
    for first in range(0, number, PIECE):
        size = min(PIECE, number - first)
        piece, table = descriptors(first, size), rows(first, size)
        began = time.perf_counter()
        flat.add(piece)
        spent["flat"] += time.perf_counter() - began
        began = time.perf_counter()
        if lance is None:
            facts = IndexFacts("", "", "photos", 25.0)
            lance = LanceIndex.create(str(folder / "lance"), facts, None, table, DIM)
        lance.add(table, piece)
        spent["lance"] += time.perf_counter() - began
        sample.append(piece[:: max(1, number // 100_000)])
    assert lance is not None
    seconds |= {"FAISS flat: add": round(spent["flat"], 1), "LanceDB: add": round(spent["lance"], 1)}
    began = time.perf_counter()
    faiss.write_index(flat, str(folder / "flat.faiss"))
    compressed: Any = faiss.index_factory(DIM, f"IVF{round(number**0.5)},PQ64")
    compressed.train(np.concatenate(sample))
    for first in range(0, number, PIECE):
        compressed.add(flat.reconstruct_n(first, min(PIECE, number - first)))
    faiss.write_index(compressed, str(folder / "ivfpq.faiss"))
    del flat, compressed, sample
    timed("FAISS IVF-PQ: build", began)
    began = time.perf_counter()
    lance.bring_up_to_date()
    timed("LanceDB: put together", began)
    began = time.perf_counter()
    made = lance.build_approximate("IVF_PQ")
    timed("LanceDB IVF_PQ: build and measure", began)
    command = [sys.executable, __file__, "--folder", str(folder), "--photos", str(number), "--search-one"]
    found: dict[str, dict[str, Any]] = {}
    for how in HOWS:
        done = subprocess.run([*command, how], check=True, capture_output=True, text=True, env=dict(os.environ))
        found[how] = json.loads(done.stdout.splitlines()[-1])
        print(how, {k: v for k, v in found[how].items() if k != "found"}, flush=True)
    exact = found[HOWS[0]]["found"]
    searches = []
    for how, one in found.items():
        share = np.mean([len(set(a) & set(b)) / K for a, b in zip(one.pop("found"), exact, strict=True)])
        searches.append({"how": how, **{k: round(v, 3) for k, v in one.items()}, "found": round(float(share), 4)})
    began = time.perf_counter()
    lance.add(rows(number, 1000), descriptors(number, 1000))
    timed("LanceDB: add 1,000 photos", began)
    began = time.perf_counter()
    lance.bring_up_to_date()
    timed("LanceDB: bring the index up to date", began)
    size = sum(path.stat().st_size for path in (folder / "lance").rglob("*") if path.is_file())
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {
        "machine": machine, "photos": number, "dim": DIM, "effort": made.effort, "measured_when_built": made.found,
        "gb_on_disk": round(size / 1e9, 2), "seconds": seconds, "searches": searches,
    }  # fmt: skip


if __name__ == "__main__":
    main()
