"""The example of a whole evaluation."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

from scratch_project import ROOT
from small_model import save_small_model
from vpr.data.manifest import DATABASE, QUERY
from vpr.descriptors.trained_model import Model
from vpr.evaluation.evaluation import evaluate_ranking
from vpr.retrieval.search import search


def test_the_example_prints_the_recalls_of_the_pipeline(city, tmp_path):
    checkpoint = save_small_model(tmp_path / "model.ckpt")
    command = [sys.executable, str(ROOT / "examples/evaluate.py"), str(checkpoint), str(city.folder / "val")]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    model = Model(checkpoint, "cpu")
    database, queries = city.part("val", DATABASE), city.part("val", QUERY)
    described = [model.describe(model.images(city.folder, rows["image"])) for rows in (database, queries)]
    expected = evaluate_ranking(*search(*map(np.asarray, described), 20), database, queries, [1, 5, 10, 20], 25.0)
    lines = [f"recall@{n} {100 * expected.metrics[f'recall_at_{n}']:.1f} %" for n in (1, 5, 10, 20)]
    assert done.stdout.splitlines() == lines
