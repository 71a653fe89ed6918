"""The real pipeline on a tiny city, through DVC, in a scratch copy of the project with a store of its own."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from vpr.data.checksums import file_sha256


def test_images_become_recalls_and_all_files_are_there(project, first_run):
    assert project.stages_run(first_run) == {
        "check", "download", "verify", "sets@val", "resize", "train", "export", "extract@val", "evaluate@val", "index",
        "rerank", "report", "record",
    }  # fmt: skip
    recalls = project.recalls("val")
    assert recalls["num_queries"] == 8
    assert 0 <= recalls["recall_at_1"] <= recalls["recall_at_20"] <= 1
    descriptors = np.load(project.folder / "data/descriptors/val/database.npy")
    rows = pd.read_parquet(project.folder / "data/descriptors/val/database.parquet")
    assert descriptors.shape == (len(rows), 512)
    assert np.linalg.norm(descriptors, axis=1) == pytest.approx(1.0, abs=1e-5)
    predictions = pd.read_parquet(project.folder / "data/predictions/val.parquet")
    first = predictions[predictions["rank"] == 1]
    assert first["is_positive"].mean() == pytest.approx(recalls["recall_at_1"])
    assert (first["is_positive"] == (first["distance_m"] <= 25)).all()
    curve = pd.read_csv(project.folder / "data/curves/val.csv")
    assert curve.set_index("N")["recall"][5] == pytest.approx(recalls["recall_at_5"])
    assert not list((project.folder / "data").glob("scratch/train-*/*"))


def test_mlflow_has_one_run_with_parameters_curve_and_recalls(project, first_run):
    runs = project.runs()
    assert len(runs) == 1
    run = runs.iloc[0]
    assert run["metrics.val/recall_at_1"] == pytest.approx(project.recalls("val")["recall_at_1"])
    assert run["params.agg.name"] == "cosplace"
    assert int(run["params.train.max_epochs"]) == 1
    assert not [c for c in runs.columns if c.startswith("params.") and "mixvpr" in c]
    assert run["tags.dvc.experiment"] == "first"
    assert run["metrics.training/loss"] > 0


def test_the_model_of_a_run_loads_by_its_name(project, first_run):
    (run_id,) = project.runs()["run_id"]
    assert f"\nruns:/{run_id}  first" in project("python", "-m", "vpr.commands.main", "models")
    loaded = project("python", "-c", f"import vpr; print(vpr.load('runs:/{run_id}').sha256)")
    assert loaded.split()[-1] == file_sha256(project.folder / "data/model.ckpt")


def test_reranking_compares_predictions_again_and_trains_nothing(project, first_run):
    pytest.importorskip("cv2")
    rerank = ("features=sift", "gate=false", "num_candidates=5", "num_workers=1")
    changes = ["evaluate.centred=true", *(f"rerank.{option}" for option in rerank)]
    output = project("dvc", "exp", "run", *(part for change in changes for part in ("-S", change)))
    assert project.stages_run(output) == {"check", "evaluate@val", "rerank", "report", "record"}
    before = project.recalls("val")
    assert before["centred"] is True
    metrics = json.loads((project.folder / "metrics/reranked.json").read_text(encoding="utf-8"))["sets"]["val"]
    assert metrics["num_reranked"] == metrics["num_queries"] == 8
    assert metrics["before_recall_at_1"] == before["recall_at_1"]
    assert metrics["after_recall_at_5"] == metrics["before_recall_at_5"], "the first five, in another order"
    assert ">Re-ranking</h2>" in (project.folder / "data/report.html").read_text(encoding="utf-8")
    assert "s a query" in (project.folder / "data/run.js").read_text(encoding="utf-8")
    runs = project.runs()
    assert metrics["after_recall_at_1"] in runs["metrics.val/reranked/after_recall_at_1"].tolist()
