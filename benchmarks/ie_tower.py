"""Real photos: IE Tower trained and evaluated over seeds, and the same models on Gardens Point, which they never saw.

Needs a network, or `data/sources.yaml` with `file://` addresses of your copies, and `make setup-photos`. Each seed is
the command of `make real`; the rest are evaluations of its checkpoint. Settings were chosen on `ie_tower_val`, frames
of clips held out of the gallery, by models that were not trained on these clips.

Run: python benchmarks/ie_tower.py benchmarks/ie_tower.json --seeds 1 2 42
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEPT = ("recall_at_1", "recall_at_5", "sequence_recall_at_1", "num_queries", "num_database")
TOWER = Path("data/tower.ckpt")
GARDENS = ["dataset=gardens_point", f"train.checkpoint={TOWER}", "eval_sets=[day,night]", "export.pca_dim=null"]
# Of one set nothing is learnt that is used on the other, so all queries are looked at again.
GARDENS += ["rerank.features=xfeat", "rerank.num_candidates=20", "rerank.gate=false"]
GARDENS += ["evaluate.sequence={reach: 5, step_m: null, jump: 0.01, temperature: 0.07}"]


def real_settings() -> list[str]:
    """What `make real` sets."""
    printed = subprocess.run(
        ["make", "--dry-run", "--always-make", "real"], check=True, capture_output=True, text=True
    ).stdout
    words = shlex.split(next(line for line in printed.splitlines() if "dvc exp run" in line))
    return [value for flag, value in itertools.pairwise(words) if flag == "-S"]


def run(name: str, settings: list[str]) -> float:
    """Run an experiment in the workspace; seconds."""
    started = time.monotonic()
    changes = [part for setting in settings for part in ("-S", setting)]
    subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--name", name, *changes], check=True)
    return time.monotonic() - started


def recalls(sets: list[str]) -> dict[str, Any]:
    """Recalls of each set, and those after a second look."""
    found = {}
    for name in sets:
        metrics = json.loads(Path(f"metrics/recalls/{name}.json").read_text(encoding="utf-8"))
        found[name] = {key: metrics[key] for key in KEPT if key in metrics}
    looks = json.loads(Path("metrics/reranked.json").read_text(encoding="utf-8")).get("sets", {})
    return {name: {**values, "second_look": looks.get(name)} for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 42])
    args = parser.parse_args()
    rows = json.loads(args.results.read_text(encoding="utf-8")) if args.results.is_file() else []
    for seed in args.seeds:
        stamp = int(time.time())
        settings = [*real_settings(), f"train.seed={seed}"]
        row: dict[str, Any] = {"seed": seed, "settings": settings, "seconds": run(f"tower-{seed}-{stamp}", settings)}
        row |= recalls(["val", "test"])
        shutil.copy("data/model.ckpt", TOWER)
        run(f"gardens-{seed}-{stamp}", GARDENS)
        row |= recalls(["day", "night"])
        rows.append(row)
        args.results.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
