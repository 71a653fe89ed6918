"""Real photos: IE Tower trained and evaluated over seeds, the same on all clips, and frozen features.

Needs a network, or `data/sources.yaml` with `file://` addresses of your copies, and `make setup-photos`. Settings were
chosen on `ie_tower_val`, frames of clips held out of the gallery, by models that were not trained on them. Gardens
Point is never trained or chosen on.

Run: python benchmarks/ie_tower.py benchmarks/ie_tower.json fit-1 fit-2 fit-42 frozen gardens-0.2
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEPT = ("recall_at_1", "recall_at_5", "sequence_recall_at_1", "sequence_recall_at_5", "num_queries", "num_database")
ALL_SETS = "eval_sets=[val,test,day,night]"


def settings_of(name: str) -> dict[str, list[str]]:
    """Return the settings of a row's evaluations.

    Args:
        name: `fit-<seed>`, `make real` with that seed; `all-<seed>`, on all clips, with the weight of inliers that the
            other learns; `frozen`, ImageNet's weights as they are; `gardens-<weight>`, the same on Gardens Point alone,
            in its own size, with the weight of inliers that `frozen` learns.
    """
    kind, _, seed = name.partition("-")
    real = [each for each in real_settings() if not each.startswith("eval_sets")]
    if kind == "fit":
        plain = [*real, f"train.seed={seed}", ALL_SETS if seed == "1" else "eval_sets=[val,test]"]
    elif kind == "all":
        trained_on = "datasets.ie_tower.images.train=[ie_tower_train]"
        plain = [*real, f"train.seed={seed}", trained_on, "eval_sets=[test]", "rerank.gate=0.1"]
    elif kind == "gardens":
        kept = [each for each in real if not each.startswith(("export", "train", "dataset", "rerank.num"))]
        plain = [*kept, "dataset=ie_tower", "train.checkpoint=untrained", "eval_sets=[day,night]"]
        plain += ["export.image_size=[216,384]", "rerank.num_candidates=50", f"rerank.gate={seed}"]
        return {"plain": plain, "centred": [*plain, "evaluate.centred=true"]}
    else:
        kept = [each for each in real if not each.startswith("train")]
        plain = [*kept, "train.checkpoint=untrained", ALL_SETS]
    centred = {"centred": [*plain, "evaluate.centred=true"]} if ALL_SETS in plain else {}
    return {"plain": plain, **centred}


def real_settings() -> list[str]:
    """Return the settings of `make real`."""
    printed = subprocess.run(
        ["make", "--dry-run", "--always-make", "real"], check=True, capture_output=True, text=True
    ).stdout
    words = shlex.split(next(line for line in printed.splitlines() if "dvc exp run" in line))
    return [value for flag, value in itertools.pairwise(words) if flag == "-S"]


def run(name: str, settings: list[str]) -> float:
    """Run an experiment in the workspace; seconds. What an earlier one wrote into `params.yaml` is taken back."""
    subprocess.run(["git", "checkout", "--quiet", "params.yaml"], check=True)
    started = time.monotonic()
    changes = [part for setting in settings for part in ("-S", setting)]
    subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--name", name, *changes], check=True)
    return time.monotonic() - started


def recalls(sets: list[str]) -> dict[str, Any]:
    """Return the recalls of each set, before and after re-ranking."""
    found = {}
    for name in sets:
        metrics = json.loads(Path(f"metrics/recalls/{name}.json").read_text(encoding="utf-8"))
        found[name] = {key: metrics[key] for key in KEPT if key in metrics}
    reranked = json.loads(Path("metrics/reranked.json").read_text(encoding="utf-8")).get("sets", {})
    return {name: {**values, "reranked": reranked.get(name)} for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("rows", nargs="+", help="fit-1, all-1, frozen")
    args = parser.parse_args()
    known = json.loads(args.results.read_text(encoding="utf-8")) if args.results.is_file() else {}
    for name in args.rows:
        row: dict[str, Any] = {}
        for how, settings in settings_of(name).items():
            seconds = run(f"tower-{name}-{how}-{int(time.time())}", settings)
            sets = (
                next(each for each in settings if each.startswith("eval_sets="))
                .partition("=")[2]
                .strip("[]")
                .split(",")
            )
            row[how] = {"settings": settings, "seconds": round(seconds), **recalls(sets)}
            known[name] = row
            args.results.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
