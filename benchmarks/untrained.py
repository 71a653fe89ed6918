"""Recall@1 of random weights on each evaluation set, into untrained.json, beside that of the trained model.

Run after `dvc repro`: PYTHONPATH=src python benchmarks/untrained.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tabulate import tabulate

from vpr.config.params import load, load_eval_sets
from vpr.data.loading import ImageList
from vpr.data.manifest import DATABASE, QUERY, read_manifest
from vpr.model.device import pick_device
from vpr.model.extraction import extract
from vpr.retrieval.params import EvaluateParams
from vpr.retrieval.positives import positives_of
from vpr.retrieval.recall import recall_at
from vpr.retrieval.search import search
from vpr.training.build import build_model
from vpr.training.configuration import load_configuration


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    configuration = load_configuration()
    radius_m = load(EvaluateParams).positive_radius_m
    spec = configuration.spec
    rows = []
    measured: dict[str, float] = {}
    for name in load_eval_sets():
        model = build_model(configuration, None)
        manifest = read_manifest(Path(f"data/manifest/sets/{name}.parquet"))
        parts = [manifest.part(name, role) for role in (DATABASE, QUERY)]
        descriptors = []
        for part in parts:
            images = ImageList(manifest.folder, part["image"], spec.preprocess())
            out = np.empty((len(part), model.descriptor_dim), np.float32)
            extract(model, images, out, pick_device("auto"), title=name)
            descriptors.append(out)
        random = recall_at(search(*descriptors, 5)[0], positives_of(*parts, radius_m) or [], [1])[1]
        trained = json.loads(Path(f"metrics/recalls/{name}.json").read_text(encoding="utf-8"))["recall_at_1"]
        measured[name] = random
        rows.append([name, f"{100 * random:.1f}", f"{100 * trained:.1f}", f"{100 * (trained - random):+.1f}"])
    Path("benchmarks/untrained.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(tabulate(rows, headers=["set", "random R@1", "trained R@1", "points"], disable_numparse=True))


if __name__ == "__main__":
    main()
