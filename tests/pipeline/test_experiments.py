"""DVC and MLflow after a change, in the scratch project of the smoke run."""

from __future__ import annotations

import shutil

import pytest
import yaml


def test_nothing_runs_again(project, first_run):
    assert project.stages_run(project("dvc", "repro")) == set()


def test_the_options_of_what_is_not_chosen_rerun_nothing(project, first_run):
    params = project.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(
        text.replace("mix_depth: 4", "mix_depth: 2").replace("angle: 20.0", "angle: 25.0"), encoding="utf-8"
    )
    try:
        assert project.stages_run(project("dvc", "repro")) == set()
    finally:
        params.write_text(text, encoding="utf-8")


def test_another_aggregator_reruns_what_depends_on_it_and_stands_beside_the_first(project, first_run):
    output = project("dvc", "exp", "run", "--name", "second", "-S", "agg=gem")
    assert project.stages_run(output) == {
        "check",
        "train",
        "export",
        "extract@val",
        "evaluate@val",
        "index",
        "rerank",
        "report",
        "record",
    }
    assert project.recalls("val")["descriptor_dim"] == 128
    table = project("dvc", "exp", "show", "--csv")
    assert "second" in table
    assert len(project.runs()) == 2
    # Back to the first: every stage but record is restored, and its run is still the one there was.
    output = project("dvc", "exp", "run", "--name", "third", "-S", "agg=cosplace")
    assert "train" not in project.stages_run(output)
    assert project.recalls("val")["descriptor_dim"] == 512
    assert len(project.runs()) == 2


def test_pca_after_training_trains_nothing_also_where_dvc_lock_names_what_was_never_made_here(
    project, first_run, warm, tmp_path_factory
):
    """As in a clone: the committed dvc.lock is of files that this cache has never seen."""
    clone = warm(project.copy(tmp_path_factory.mktemp("clone") / "project"))
    lock = yaml.safe_load((clone.folder / "dvc.lock").read_text(encoding="utf-8"))
    for name, stage in lock["stages"].items():
        for out in stage.get("outs", []):
            if name.partition("@")[0] in ("verify", "sets"):
                out["md5"] = f"{0:032x}"
    (clone.folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
    clone.commit("a lock of another machine")
    output = clone("dvc", "exp", "run", "--name", "pca", "-S", "export.pca_dim=8")
    assert "train" not in clone.stages_run(output)
    assert {"check", "export", "extract@val", "evaluate@val"} <= clone.stages_run(output)
    assert clone.recalls("val")["descriptor_dim"] == 8
    assert len(clone.runs()) == len(project.runs()) + 1, "another export of a model is another run"


def test_a_wiped_store_gets_its_run_back_without_training(project, first_run):
    shutil.rmtree(project.folder / "mlruns")
    output = project("dvc", "repro")
    assert project.stages_run(output) == {"record"}
    assert project.runs()["metrics.val/recall_at_1"].tolist() == pytest.approx([project.recalls("val")["recall_at_1"]])


def test_a_misspelt_name_stops_before_any_work(project, first_run):
    output = project("dvc", "exp", "run", "-S", "agg=netvald", fails=True)
    assert "aggregators.netvald" in output
    assert not project.stages_run(output) - {"check"}
    # A failed experiment can leave its change in the file with git none the wiser.
    committed = project("git", "show", "HEAD:params.yaml")
    (project.folder / "params.yaml").write_text(committed, encoding="utf-8")
