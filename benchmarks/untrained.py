"""Recall@1 of random weights on each evaluation set, into untrained.json, beside that of the trained model.

Run after `dvc repro`: PYTHONPATH=src python benchmarks/untrained.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import dvc.api
from tabulate import tabulate

from vpr.config.params import Params

NAME = "untrained"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    command = ["dvc", "exp", "run", "--temp", "--force", "--name", NAME, "-S", f"train.checkpoint={NAME}"]
    subprocess.run(command, check=True)
    recalls = [Path(f"metrics/recalls/{name}.json") for name in Params.read().eval_sets]
    random = {path.stem: json.loads(dvc.api.read(str(path), rev=NAME))["recall_at_1"] for path in recalls}
    rows = []
    for path in recalls:
        trained = json.loads(path.read_text(encoding="utf-8"))["recall_at_1"]
        points = 100 * (trained - random[path.stem])
        rows.append([path.stem, f"{100 * random[path.stem]:.1f}", f"{100 * trained:.1f}", f"{points:+.1f}"])
    Path("benchmarks/untrained.json").write_text(json.dumps(random, indent=2) + "\n", encoding="utf-8")
    print(tabulate(rows, headers=["set", "random R@1", "trained R@1", "points"], disable_numparse=True))


if __name__ == "__main__":
    main()
