"""MLflow's server on PostgreSQL as the tracking store of two machines, and restarted while both train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from mlflow_on_postgres import free_port, mlflow_server, postgres_server
from vpr.data.manifest import write_manifest

STEPS = 60

# The train and record stages of a machine do this to the store.
WRITER = """
import sys, time
from pathlib import Path
import numpy as np, torch
from vpr.data.checksums import file_sha256
from vpr.data.manifest import DATABASE, read_manifest
from vpr.experiments.live import TrainingRun
from vpr.experiments.recording import Results, record
from vpr.localization.index_files import IndexFacts
from vpr.serving.index import Index
from vpr.model.checkpoint import save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.training.configuration import RunConfiguration
from vpr.training.summary import TrainingLog, TrainingSummary

folder, number, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
manifest = read_manifest(folder / "manifest.parquet")
named = {key: {"name": f"{key}{number}"} for key in ("backbone", "agg", "loss", "miner")}
configuration = RunConfiguration.from_dict({"dataset": {"name": manifest.name}, **named, "train": {"lr": 0.1}})
spec = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(16, 16))
torch.manual_seed(number)
best, index = folder / f"{number}.ckpt", folder / f"index{number}"
save_checkpoint(best, spec, VPRModel(spec).state_dict(), {})
rows = manifest.part("val", DATABASE)
descriptors = np.eye(len(rows), 64, dtype=np.float32)
Index(descriptors, rows, IndexFacts(file_sha256(best), "city", "val", 25.0), None).save(index)
curve = [{"step": step, "epoch": 1, "loss": 1 / (step + 1)} for step in range(steps)]
with TrainingRun(f"key{number}", configuration, manifest, "digest", TrainingLog()) as run:
    print("ready", flush=True)
    for row in curve:
        run.log({"loss": row["loss"]}, row["step"])
        time.sleep(0.05)
    run.finish(best)
summary = TrainingSummary(configuration, "digest", 64, 1, run_key=f"key{number}")
recalls = {"val": {"recall_at_1": number / 10}}
for attempt in range(20):  # as `make record` once the server is back
    try:
        record(Results(summary, TrainingLog(), best, best, index, {"checkpoint": "best"}, curve, recalls, [], manifest))
        break
    except Exception as error:
        print(error, flush=True)
        time.sleep(1)
"""


@pytest.fixture
def postgres():
    with postgres_server() as address:
        yield address


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_two_writers_and_a_restart_leave_two_whole_runs(postgres, city, tmp_path):
    import mlflow

    write_manifest(city, tmp_path / "manifest.parquet")
    port = free_port()
    with mlflow_server(postgres, tmp_path / "artifacts", port) as address:
        env = os.environ | {"MLFLOW_TRACKING_URI": address, "PYTHONPATH": "src"}
        writers = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", WRITER, str(tmp_path), str(number), str(STEPS)],
                env=env, stdout=subprocess.PIPE, text=True,
            )
            for number in (1, 2)
        ]  # fmt: skip
        for writer in writers:
            while "ready" not in writer.stdout.readline():
                assert writer.poll() is None
        time.sleep(0.5)
    time.sleep(1)
    with mlflow_server(postgres, tmp_path / "artifacts", port) as address:
        for writer in writers:
            printed, _ = writer.communicate(timeout=120)
            assert writer.returncode == 0, printed
        client = mlflow.tracking.MlflowClient(address)
        (experiment,) = client.search_experiments(filter_string="name = 'vpr'")
        runs = client.search_runs([experiment.experiment_id])
        assert [run.info.status for run in runs] == ["FINISHED"] * 2
        assert {run.data.metrics["val/recall_at_1"] for run in runs} == {0.1, 0.2}
        for run in runs:
            history = client.get_metric_history(run.info.run_id, "training/loss")
            assert sorted(row.step for row in history) == list(range(STEPS))
            number = run.data.params["agg.name"].removeprefix("agg")
            assert {run.data.params[f"{key}.name"] for key in ("loss", "miner")} == {f"loss{number}", f"miner{number}"}
        models = client.search_logged_models([experiment.experiment_id])
        assert sorted(str(model.status) for model in models) == ["READY", "READY"]
        files = mlflow.artifacts.list_artifacts(run_id=runs[0].info.run_id, tracking_uri=address)
        assert "training" in json.dumps([file.path for file in files])
