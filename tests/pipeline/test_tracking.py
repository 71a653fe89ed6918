"""MLflow on a real SQLite store: one run per model, rebuilt from files, never in the way."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vpr.commands import main as cli
from vpr.config.errors import UserError
from vpr.config.project import git_commit
from vpr.data.checksums import file_sha256
from vpr.data.manifest import DATABASE, Manifest, write_manifest
from vpr.data.preprocess import Preprocess
from vpr.experiments import store as store_module
from vpr.experiments import ui
from vpr.experiments.comparison import compare
from vpr.experiments.environment_differences import environment_differences
from vpr.experiments.live import TrainingRun
from vpr.experiments.recording import Results, receipt, set_digest
from vpr.experiments.recording import record as record_results
from vpr.experiments.runs import find_run, finished_runs
from vpr.localization.index_files import IndexFacts
from vpr.model.checkpoint import save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.serving.index import Index
from vpr.stages import record as record_stage
from vpr.training.configuration import RunConfiguration
from vpr.training.summary import TrainingLog, TrainingSummary

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own

SPEC = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(24, 32))
CONFIGURATION = RunConfiguration.from_dict(
    {
        "dataset": {"name": "synthetic", "seed": 1},
        "backbone": {"name": "resnet18"},
        "agg": {"name": "gem", "p": 3.0},
        "loss": {"name": "MultiSimilarityLoss"},
        "miner": {"name": "none"},
        "train": {"lr": 0.1, "image_size": [24, 32]},
    }
)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "store_folder", lambda: tmp_path / "mlruns")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    return tmp_path / "mlruns"


@pytest.fixture
def files(tmp_path, city):
    """Write what the stages leave: manifest, checkpoint, facts and metrics."""
    write_manifest(city, tmp_path / "manifest.parquet")
    torch.manual_seed(0)
    model = VPRModel(SPEC)
    save_checkpoint(tmp_path / "best.ckpt", SPEC, model.state_dict(), {})
    summary = TrainingSummary(CONFIGURATION, "0123456789abcdef", model.descriptor_dim, 2, run_key="key1")
    summary.save(tmp_path)
    curve = [{"step": 5, "epoch": 1, "loss": 0.5, "val_recall_at_1": float("nan")}]
    return tmp_path, summary, curve, model


LOG = TrainingLog("abc", None, "a machine", {}, 12.5)


def record(files, city, recalls, which="best", database=None, log=LOG, digests=None):
    """Record a model with an index of the city's database."""
    folder, summary, curve, _ = files
    checkpoint, index = folder / f"{which}.ckpt", folder / f"index_{which}"
    rows = city.part("val", DATABASE).iloc[:database]
    descriptors = np.eye(len(rows), 64, dtype=np.float32)
    Index(descriptors, rows, IndexFacts(file_sha256(checkpoint), "city", "val", 25.0), None).save(index)
    best, artifacts, export = folder / "best.ckpt", [folder / "training.json"], {"checkpoint": which}
    return record_results(
        Results(summary, log, best, checkpoint, index, export, curve, recalls, artifacts, city, digests or {})
    )


def run_of(run_id):
    import mlflow

    return mlflow.tracking.MlflowClient(store_module.tracking_uri()).get_run(run_id)


DIGEST = "0123456789abcdef"


def test_training_and_recording_make_one_run(store, files, city, monkeypatch):
    folder = files[0]
    log = replace(LOG, experiment="brave-crow")
    with TrainingRun("key1", CONFIGURATION, city, DIGEST, log) as live:
        live.log({"loss": 0.5}, 5)
        live.finish(folder / "best.ckpt")
    first = record(files, city, {"val": {"recall_at_1": 0.25, "num_queries": 6}})
    second = record(files, city, {"val": {"recall_at_1": 0.5, "num_queries": 6}, "test": {"recall_at_1": 0.1}})
    assert first == second
    run = run_of(first)
    assert run.info.status == "FINISHED"
    assert run.data.params["agg.p"] == "3.0"
    assert run.data.params["train.lr"] == "0.1"
    assert run.data.metrics["training/loss"] == 0.5
    assert run.data.metrics["val/recall_at_1"] == 0.5
    assert run.data.metrics["test/recall_at_1"] == 0.1
    assert run.data.tags[store_module.EXPERIMENT_TAG] == "brave-crow"
    assert run.info.run_name == "brave-crow"
    inputs = {(i.dataset.name, tag.value): i.dataset.digest for i in run.inputs.dataset_inputs for tag in i.tags}
    assert inputs[(city.name, "training")] == "0123456789abcdef"
    assert {name for name, context in inputs if context == "evaluation"} == {"val", "test"}


def test_a_recall_names_its_set_and_its_model_and_the_model_has_an_example(store, files, city, monkeypatch):
    import mlflow

    monkeypatch.setenv("VPR_SWEEP", "agg-loss-abc")
    recalls = {name: {"recall_at_1": recall} for name, recall in (("val", 0.25), ("test", 0.5))}
    run_id = record(files, city, recalls, digests={"val": "d1", "test": "d2"})
    client = mlflow.tracking.MlflowClient(store_module.tracking_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'vpr'")
    (model,) = client.search_logged_models([experiment.experiment_id])
    of_model = {metric.key: metric for metric in model.metrics}
    found = {name: of_model[f"{name}/recall_at_1"] for name in ("val", "test")}
    assert {name: (m.value, m.dataset_name, m.dataset_digest) for name, m in found.items()} == {
        "val": (0.25, "val", "d1"), "test": (0.5, "test", "d2"),
    }  # fmt: skip
    loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    example = loaded.input_example if hasattr(loaded, "input_example") else loaded.metadata.load_input_example()
    assert len(base64.b64decode(example["photo"].iloc[0])) < 3000
    (answer,) = loaded.predict(example)
    assert answer["predictions"]
    assert run_of(run_id).data.tags[store_module.SWEEP_TAG] == "agg-loss-abc"


def test_a_wiped_or_other_store_gets_the_run_from_the_files(store, files, city, tmp_path, monkeypatch):
    record(files, city, {"val": {"recall_at_1": 0.25}})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    run = run_of(record(files, city, {"val": {"recall_at_1": 0.25}}))
    assert run.data.metrics["val/recall_at_1"] == 0.25
    assert run.data.metrics["training/loss"] == 0.5
    assert run.data.params["loss.name"] == "MultiSimilarityLoss"
    assert run.data.tags["mlflow.source.git.commit"] == "abc"


def test_recalls_on_other_data_than_the_model_s_own_stand_beside_its_own(store, files, city):
    own = record(files, city, {"val": {"recall_at_1": 0.75, "positives": "25 m", "index": "SQ8"}})
    foreign = Manifest("gsv_xs", city.root, city.rows)
    assert record(files, foreign, {"val": {"recall_at_1": 0.25}}) == own
    metrics = run_of(own).data.metrics
    assert metrics["val/recall_at_1"] == 0.75
    assert metrics["gsv_xs/val/recall_at_1"] == 0.25


def test_recalls_on_other_images_under_the_name_of_a_set_do_not_replace_those_on_its_own(store, files, city):
    val, other = set_digest(city, "val"), set_digest(city, "test")
    own = record(files, city, {"val": {"recall_at_1": 0.5}}, digests={"val": val})
    assert record(files, city, {"val": {"recall_at_1": 0.25}}, digests={"val": other}) == own
    assert record(files, city, {"val": {"recall_at_1": 0.75}}, digests={"val": val}) == own
    metrics = run_of(own).data.metrics
    assert (metrics["val/recall_at_1"], metrics[f"val-{other[:8]}/recall_at_1"]) == (0.75, 0.25)
    table = compare(finished_runs())
    assert table[["val R@1", f"val-{other[:8]} R@1"]].to_numpy().tolist() == [["75.0", "25.0"]]
    moved = Manifest(city.name, city.root, city.rows.assign(utm_east=city.rows["utm_east"] + 1))
    renamed = Manifest(city.name, city.root, city.rows.assign(image="x/" + city.rows["image"])[::-1])
    assert set_digest(moved, "val") != val == set_digest(renamed, "val") != other


def photo(seed: int = 0) -> tuple[Image.Image, str]:
    """A photo, and the base64 of its PNG."""
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    content = io.BytesIO()
    image.save(content, "PNG")
    return image, base64.b64encode(content.getvalue()).decode("ascii")


def expected_descriptor(model: VPRModel, image: Image.Image) -> np.ndarray:
    preprocess = Preprocess(SPEC.image_size)
    with torch.inference_mode():
        return model.eval()(preprocess(image)[None]).numpy()[0]


def test_the_logged_model_locates_photos(store, files, city):
    import mlflow

    run_id = record(files, city, {})
    loaded = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    image, content = photo()
    asked = pd.DataFrame({"photo": [content, "no base64!", base64.b64encode(b"a text").decode()]})
    right, garbled, text = loaded.predict(asked, params={"descriptor": True, "num_predictions": 2})
    assert np.allclose(right["descriptor"], expected_descriptor(files[3], image), atol=1e-6)
    assert len(right["predictions"]) == 2
    row = int(np.argmax(right["descriptor"][: len(city.part("val", DATABASE))]))
    assert right["utm_east"] == city.part("val", DATABASE)["utm_east"].iloc[row]
    assert right["confidence"] is None
    assert garbled["error"] == "photo 2: not in base64"
    assert "photo 3: not an image" in text["error"]


def test_another_database_is_logged_with_the_model(store, files, city):
    import mlflow

    asked = pd.DataFrame({"photo": [photo()[1]]})
    for number in (None, 3, 5):
        run_id = record(files, city, {}, database=number)
        (answer,) = mlflow.pyfunc.load_model(f"runs:/{run_id}/model").predict(asked, params={"num_predictions": 100})
        assert len(answer["predictions"]) == len(city.part("val", DATABASE).iloc[:number])


def test_an_interrupted_training_goes_on_in_its_run(store, files, city):
    first = ""
    with (
        contextlib.suppress(KeyboardInterrupt),
        TrainingRun("k", CONFIGURATION, city, DIGEST, LOG) as a,
    ):
        first = a.mlflow.active_run().info.run_id
        raise KeyboardInterrupt
    assert run_of(first).info.status == "KILLED"
    with TrainingRun("k", CONFIGURATION, city, DIGEST, LOG) as b:
        assert b.mlflow.active_run().info.run_id == first


def histories(run_id: str) -> dict[str, list[tuple[int, float]]]:
    import mlflow

    client = mlflow.tracking.MlflowClient(store_module.tracking_uri())
    names = run_of(run_id).data.metrics
    return {name: [(row.step, row.value) for row in client.get_metric_history(run_id, name)] for name in names}


def test_what_an_interrupted_training_logged_is_not_logged_twice(store, files, city):
    run_id = ""
    with contextlib.suppress(KeyboardInterrupt), TrainingRun("k", CONFIGURATION, city, DIGEST, LOG) as a:
        run_id = a.mlflow.active_run().info.run_id
        a.log({"loss": 3.0}, 1)
        a.log({"loss": 2.0}, 2)
        raise KeyboardInterrupt
    with TrainingRun("k", CONFIGURATION, city, DIGEST, LOG) as b:  # goes on from step 1, where its checkpoint was
        b.log({"loss": 2.0}, 2)
        b.log({"loss": 1.0}, 3)
    assert histories(run_id)["training/loss"] == [(1, 3.0), (2, 2.0), (3, 1.0)]


@pytest.mark.parametrize("key", ["key1", "another, because the code was edited"])
def test_the_same_training_again_leaves_one_run(store, files, city, capsys, key):
    runs = []
    for again in ("key1", key):
        with TrainingRun(again, CONFIGURATION, city, DIGEST, LOG) as live:
            runs.append(live.mlflow.active_run().info.run_id)
            live.log({"loss": 0.5}, 5)
            live.finish(files[0] / "best.ckpt")
    assert "already has this model" in capsys.readouterr().out
    assert run_of(runs[1]).info.lifecycle_stage == "deleted"
    assert record(files, city, {"val": {"recall_at_1": 0.25}}) == runs[0]


def test_a_model_that_a_killed_record_left_half_is_removed_and_a_whole_one_kept(store, files, city):
    import mlflow

    client = mlflow.tracking.MlflowClient(store_module.tracking_uri())

    def stop(*_, **__):
        raise KeyboardInterrupt

    # Killed while the model is uploaded, then between the upload and the run's tags.
    for moment, left in (("mlflow.pyfunc.save_model", "PENDING"), ("vpr.experiments.recording.flat", "READY")):
        with contextlib.suppress(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
            patch.setattr(moment, stop)
            record(files, city, {"val": {"recall_at_1": 0.25}})
        (experiment,) = client.search_experiments(filter_string="name = 'vpr'")
        assert [str(model.status) for model in client.search_logged_models([experiment.experiment_id])] == [left]
    run_id = record(files, city, {"val": {"recall_at_1": 0.25}})
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert (str(model.status), model.source_run_id) == ("READY", run_id)
    assert histories(run_id)["training/loss"] == [(5, 0.5)]


def test_an_experiment_whose_result_was_there_already_is_found_by_its_own_name(store, files, city, monkeypatch):
    recalls = {"val": {"recall_at_1": 0.5}}
    monkeypatch.setenv("DVC_EXP_NAME", "first")
    run_id = record(files, city, recalls, log=replace(LOG, experiment="first"))
    for _ in range(2):
        monkeypatch.setenv("DVC_EXP_NAME", "loony-sinh")
        assert record(files, city, recalls) == run_id
    (run,) = finished_runs()
    assert run.all_names == "first = loony-sinh"
    assert find_run("loony-sinh", [run]) is find_run("first", [run]) is run
    with pytest.raises(UserError, match="the newest runs are: first = loony-sinh"):
        find_run("another", [run])


def test_the_pages_of_mlflow_open_on_recalls_and_components(store, files, city):
    record(files, city, {"val": {"recall_at_1": 0.5}})
    address = ui.prepare(5001)
    import mlflow

    experiment = mlflow.get_experiment_by_name("vpr")
    assert f"/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey={ui.VIEW}" in address
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    state = json.loads(experiment.tags[f"mlflow.sharedViewState.{ui.VIEW}"])
    assert state["orderByKey"] == "metrics.`test/recall_at_1`"
    assert {"params.`agg.name`", "metrics.`val/recall_at_1`"} <= set(state["selectedColumns"])


def test_the_environment_of_a_run_is_held_against_the_present_one(store, files, city, monkeypatch, capsys):
    now = TrainingLog.of_this_process()
    then = {**now.versions, "numpy": "1.0", "gone": "2.0"}
    record(files, city, {"val": {"recall_at_1": 0.25}}, log=replace(now, experiment="old", versions=then))
    record(files, city, {"val": {"recall_at_1": 0.25}}, log=replace(now, experiment="old", versions=then))
    (run,) = finished_runs()
    assert environment_differences(run) == [("gone", "2.0", "-"), ("numpy", "1.0", now.versions["numpy"])]
    monkeypatch.setattr("sys.argv", ["vpr", "env", "old"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert re.search(r"^numpy +1\.0 +\d", capsys.readouterr().out, re.MULTILINE)
    record(files, city, {"val": {"recall_at_1": 0.25}}, log=now)
    assert environment_differences(run) == []


def test_a_run_that_another_machine_trained_does_not_say_with_what(store, files, city):
    record(files, city, {"val": {"recall_at_1": 0.25}}, log=None)
    with pytest.raises(UserError, match="has no record of its environment, because it was trained on another"):
        environment_differences(finished_runs()[0])


def test_the_runs_of_a_read_only_project_can_be_compared(store, files, city):
    run_id = record(files, city, {"val": {"recall_at_1": 0.25}})
    if subprocess.run(["mount", "--bind", "-o", "ro", str(store), str(store)], check=False).returncode != 0:
        pytest.skip("mounting a folder read-only needs the right to mount")
    try:
        assert [run.id for run in finished_runs()] == [run_id]
    finally:
        subprocess.run(["umount", str(store)], check=True)


def test_a_curve_with_a_gap_is_completed_in_the_same_run(store, files, city, capsys):
    folder = files[0]
    with TrainingRun("key1", CONFIGURATION, city, DIGEST, LOG) as live:
        live.log({"loss": float("1")}, "no step")  # a row that the store refuses
        live.finish(folder / "best.ckpt")
        run_id = live.mlflow.active_run().info.run_id
    assert "no longer tracked" in capsys.readouterr().err
    assert record(files, city, {"val": {"recall_at_1": 0.25}}) == run_id
    assert run_of(run_id).data.metrics["training/loss"] == 0.5


def test_another_export_of_a_model_has_a_run_of_its_own_with_the_model_that_was_evaluated(store, files, city):
    import mlflow

    folder = files[0]
    other = VPRModel(SPEC).eval()
    save_checkpoint(folder / "last.ckpt", SPEC, other.state_dict(), {})
    first = record(files, city, {})
    recalls = {"val": {"recall_at_1": 0.5}}
    second = record(files, city, recalls, "last")
    assert first != second
    assert record(files, city, recalls, "last") == second
    assert record(files, city, {}) == first
    assert (run_of(first).data.params["export.checkpoint"], run_of(first).data.metrics.get("val/recall_at_1")) == (
        "best",
        None,
    )
    assert run_of(second).data.params["export.checkpoint"] == "last"
    assert run_of(second).data.metrics["val/recall_at_1"] == 0.5
    image, content = photo()
    loaded = mlflow.pyfunc.load_model(f"runs:/{second}/model")
    (answer,) = loaded.predict(pd.DataFrame({"photo": [content]}), params={"descriptor": True})
    assert np.allclose(answer["descriptor"], expected_descriptor(other, image), atol=1e-6)


def test_a_store_that_is_down_costs_a_warning_without_its_password_not_the_training(
    store, files, city, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with TrainingRun("k", CONFIGURATION, city, DIGEST, LOG) as run:
        run.log({"loss": 1.0}, 1)
        run.finish(files[0] / "best.ckpt")
    printed = capsys.readouterr().err
    assert "not tracked" in printed
    with pytest.raises(UserError, match="could not query MLflow") as refused:
        finished_runs()
    assert "s3cret" not in printed + str(refused.value)


def test_a_store_that_was_half_made_is_made_again(store, files, city):
    store.mkdir()
    (store / f".mlflow.db.{os.getpid()}.part").touch()  # a killed process has left it
    record(files, city, {"val": {"recall_at_1": 0.5}})
    assert not list(store.glob(".*.part"))
    assert len(finished_runs()) == 1


def test_the_record_stage_fails_where_its_own_store_can_t_be_written_and_not_where_a_server_is_away(
    store, files, city, tmp_path, monkeypatch
):
    folder, summary, curve, _ = files
    index = tmp_path / "index"
    first = city.part("val", DATABASE).head(1)
    Index(np.eye(1, 64, dtype=np.float32), first, IndexFacts("", "", "", 25.0), None).save(index)
    best = folder / "best.ckpt"
    results = Results(summary, LOG, best, best, index, {}, curve, {"val": {"recall_at_1": 0.5}}, [], city)
    monkeypatch.setattr(record_stage, "gather", lambda *_: results)
    report, receipt_file = tmp_path / "report.html", tmp_path / "receipt.json"
    options = {"manifest": "m", "models": "m", "model": best, "index": index, "predictions": "p", "metrics": "m"}
    options |= {"evaluation-manifest": "m", "report": report, "receipt": receipt_file}
    monkeypatch.setattr("sys.argv", ["record.py", *(f"--{key}={value}" for key, value in options.items())])
    store.mkdir()
    (store / "mlflow.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(UserError, match=r"mlflow\.db cannot be written: .*; results are safe in files"):
        record_stage.main()
    assert not receipt_file.exists(), "so that the next `dvc repro` records"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record_stage.main()
    assert json.loads(receipt_file.read_text(encoding="utf-8"))["recorded"] is False


def test_the_project_s_store_is_the_main_repository_s_and_a_foreign_dvc_root_is_ignored(monkeypatch, tmp_path):
    from vpr.config import project

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    here = project._PACKAGE.parents[3]
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert store_module.tracking_uri() == f"sqlite:///{here}/mlruns/mlflow.db"
    # In a temporary copy DVC_ROOT is the main repository, in which the copy lies.
    monkeypatch.setattr(project, "_PACKAGE", tmp_path / ".dvc/tmp/exps/x/src/vpr/config/project.py")
    assert store_module.tracking_uri() == f"sqlite:///{tmp_path}/mlruns/mlflow.db"


def test_a_receipt_is_the_same_for_the_same_results(files):
    checkpoint = files[0] / "best.ckpt"
    one = receipt("run1", checkpoint, {"val": {"recall_at_1": 0.5}})
    assert one == receipt("run2", checkpoint, {"val": {"recall_at_1": 0.5}})
    other = json.loads(receipt("run1", checkpoint, {"val": {"recall_at_1": 0.6}}))
    assert {key for key, value in json.loads(one).items() if value != other[key]} == {"recalls_sha256"}
    assert json.loads(receipt(None, checkpoint, {}))["recorded"] is False


def test_the_commit_is_marked_when_code_or_parameters_differ_from_it(tmp_path, monkeypatch):
    import subprocess

    def git(*command):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=tmp_path, check=True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() == "unknown"
    for name in ("params.yaml", "dvc.lock"):
        (tmp_path / name).write_text("a")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "all")
    clean = git_commit()
    assert len(clean) == 40
    (tmp_path / "dvc.lock").write_text("another")
    assert git_commit() == clean
    (tmp_path / "params.yaml").write_text("another")
    assert git_commit() == f"{clean}+changes"
