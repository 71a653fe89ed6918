"""Measure DVC and the stages for a training folder of 530,000 images, in a scratch clone that runs twice.

The model is the one in data/models, evaluated without training, on 200 database images and 50 queries.
Run: PYTHONPATH=src python benchmarks/half_million.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from tabulate import tabulate
from verifying import make, photo

from vpr.sources.standard_naming import format_name

ROOT = Path(__file__).parents[1]
RESULTS = Path("benchmarks/half_million.json")


def make_evaluation_set(folder: Path) -> None:
    """A street of photos: every query has a positive."""
    rng = np.random.default_rng(1)
    for part, number, step_m in (("database", 200, 10), ("queries", 50, 40)):
        (folder / "val" / part).mkdir(parents=True)
        for k in range(number):
            name = format_name(500_000 + step_m * k, 4_900_000, (32, "T"), f"{part}{k}", 0, "201907")
            (folder / "val" / part / name).write_bytes(photo(rng))


def edit_params(project: Path, images: Path, evaluation: Path) -> None:
    """The paper's dataset, its sources on this disk."""
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params |= {"dataset": "gsv_xs", "eval_sets": ["val"]}
    params["datasets"]["gsv_xs"]["images"]["eval_sets"] = {"val": "sf_xs_val"}
    catalogue = project / "data" / "sources.yaml"
    sources = yaml.safe_load(catalogue.read_text(encoding="utf-8"))
    sources["gsv_xs"] |= {"url": f"file://{images}", "expected": {}}
    sources["sf_xs_val"] |= {"url": f"file://{evaluation}", "expected": {}}
    catalogue.write_text(yaml.safe_dump(sources, sort_keys=False), encoding="utf-8")
    params["train"]["checkpoint"] = str((ROOT / "data/models/best.ckpt").resolve())
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=530_000)
    args = parser.parse_args()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        project = root / "project"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
        make(root / "set", args.images, min(20_000, args.images))
        make_evaluation_set(root / "evaluation")
        edit_params(project, root / "set", root / "evaluation")
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "PYTHON", "DATA_ROOT", "MLFLOW"))}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"

        def run(what: str, *command: str) -> None:
            print(what, flush=True)
            started = time.perf_counter()
            subprocess.run(["dvc", *command], cwd=project, env=env, check=True, capture_output=True)
            seconds[what] = round(time.perf_counter() - started, 1)

        run("check and download (list the folder)", "repro", "download")
        run("verify", "repro", "verify")
        run("all other stages, without training", "repro")
        run("dvc repro, nothing changed", "repro")
        run("dvc status", "status")
        run("download again", "repro", "--force", "--single-item", "download")
        run("verify again, no image changed", "repro", "--force", "--single-item", "verify")
        cache = sum(path.stat().st_size for path in (project / ".dvc/cache").rglob("*") if path.is_file())
    result = {"num_images": args.images, "seconds": seconds, "dvc_cache_mb": round(cache / 1e6)}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    baseline = seconds["verify"]
    rows = [[what, f"{s:.1f}", f"{s / baseline:.3f}"] for what, s in seconds.items()]
    print(f"{args.images:,} images, {os.cpu_count()} cores; DVC's cache has {result['dvc_cache_mb']} MB")
    print(tabulate(rows, headers=["", "seconds", "of verifying"], disable_numparse=True))


if __name__ == "__main__":
    main()
