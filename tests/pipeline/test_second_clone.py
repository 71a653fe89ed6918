"""A second clone fetches the results of the first, without training."""

from __future__ import annotations

from scratch_project import Project


def test_a_second_clone_pulls_the_results_and_trains_nothing(project, first_run, warm, tmp_path):
    remote = ["dvc", "remote", "add", "--local", "--default", "shelf", str(tmp_path / "shelf")]
    project(*remote)
    project("dvc", "push")
    project("git", "clone", "--quiet", str(project.folder), str(tmp_path / "second"))
    second = warm(Project.at(tmp_path / "second"))
    second(*remote)
    second("dvc", "pull")
    for file in ("data/report.html", "data/model.ckpt", "data/predictions/val.parquet"):
        assert (second.folder / file).read_bytes() == (project.folder / file).read_bytes(), file
    printed = second("dvc", "repro")
    assert second.stages_run(printed) == {"record"}  # this clone's MLflow has no run yet
    assert second("git", "status", "--porcelain") == ""
    runs = second.runs()
    assert len(runs) == 1
    assert runs["metrics.val/recall_at_1"].iloc[0] == project.recalls("val")["recall_at_1"]


def test_a_tagged_model_is_fetched_as_an_artifact(project, first_run, tmp_path):
    project("dvc", "remote", "add", "--default", "--force", "shelf", str(tmp_path / "shelf"))
    project("dvc", "push")
    project.commit("a remote")
    project("git", "tag", "--annotate", "vpr@v1.0.0", "--message", "the first")
    project("dvc", "artifacts", "get", str(project.folder), "vpr", "--out", str(tmp_path / "fetched.ckpt"))
    assert (tmp_path / "fetched.ckpt").read_bytes() == (project.folder / "data/model.ckpt").read_bytes()
