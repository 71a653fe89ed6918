"""A sweep as jobs of submitit, on a SLURM of this machine where there is one, and two machines that meet in remotes."""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest

from mlflow_on_postgres import free_port, mlflow_server, postgres_server
from scratch_project import Project
from vpr.config.errors import UserError
from vpr.experiments.launcher import job_settings

pytest.importorskip("submitit")
CLI = ("python", "-c", "import sys; sys.path.insert(0, 'src'); from vpr.commands.main import main; main()")


def has_slurm() -> bool:
    if not shutil.which("sinfo"):
        return False
    asked = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=30, check=False)
    return asked.returncode == 0 and " up " in asked.stdout


def launcher(name: str) -> object:
    reason = "no SLURM controller answers on this machine"
    return pytest.param(name, marks=pytest.mark.skipif(name == "slurm" and not has_slurm(), reason=reason))


def test_settings_of_a_job_are_read_as_yaml():
    assert job_settings([])["timeout_min"] == 24 * 60
    found = job_settings(["gpus_per_node=1", "slurm_partition=gpu", "timeout_min=5"])
    assert found == {"gpus_per_node": 1, "slurm_partition": "gpu", "timeout_min": 5}
    for wrong in ("gpus", "=1", "a b=1", "gpus="):
        with pytest.raises(UserError, match="expected key=value"):
            job_settings([wrong])


@pytest.mark.parametrize("name", [launcher("local"), launcher("slurm")])
def test_jobs_end_each_for_itself_and_are_not_run_twice(finished, warm, tmp_path, name):
    project = warm(finished[0].copy(tmp_path / "project"))
    sweep = ("sweep", "--launcher", name, "agg=avg", "train.max_memory_gb=null,1e-9")
    assert "mispelt" in project(*CLI, *sweep, "--job", "mispelt=1", fails=True)
    printed = project(*CLI, *sweep, fails=True)
    assert "1 done, 1 failed" in printed
    assert "similarities × 4 bytes" in printed
    again = project(*CLI, *sweep, fails=True)
    assert "2 experiments, 1 of them finished before" in again
    runs = project.runs()
    assert any(name.startswith("avg-null-") for name in runs["tags.dvc.experiment"])
    assert len(runs) == 2  # the finished one of the copy, and that of the sweep


@pytest.mark.skipif(not has_slurm(), reason="no SLURM controller answers on this machine")
def test_a_sweep_whose_terminal_died_finds_its_jobs_again(finished, warm, tmp_path):
    project = warm(finished[0].copy(tmp_path / "project"))
    command = (*CLI, "sweep", "--launcher", "slurm", "agg=avg")
    with subprocess.Popen(command, cwd=project.folder, env=project.env, stdout=subprocess.PIPE, text=True) as first:
        while "job " not in (line := first.stdout.readline()):
            assert first.poll() is None
        first.kill()
    job = line.split(":")[0]
    printed = project(*CLI, "sweep", "--launcher", "slurm", "agg=avg")
    assert job in printed
    assert "1 done, 0 failed" in printed
    assert len(list((project.folder / ".dvc/tmp/sweep").glob("*/*_submitted.pkl"))) == 1


@pytest.mark.skipif(not has_slurm(), reason="no SLURM controller answers on this machine")
def test_a_job_starts_the_ranks_of_its_training_itself(finished, warm, tmp_path):
    project = warm(finished[0].copy(tmp_path / "project"))
    printed = project(*CLI, "sweep", "--launcher", "slurm", "--job", "cpus_per_task=2", "agg=avg", "train.devices=2")
    assert "1 done, 0 failed" in printed


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_two_checkouts_share_a_sweep_and_meet_in_remotes_and_on_one_server(finished, warm, tmp_path):
    import mlflow

    first = warm(finished[0].copy(tmp_path / "first"))
    first("git", "init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "meeting.git"))
    first("git", "remote", "add", "origin", str(tmp_path / "meeting.git"))
    first("dvc", "remote", "add", "--default", "shelf", str(tmp_path / "shelf"))
    first.commit("a remote")
    first("git", "push", "--quiet", "origin", "main")
    first("dvc", "push", "--quiet")
    first("git", "clone", "--quiet", str(tmp_path / "meeting.git"), str(tmp_path / "second"))
    second = warm(Project.at(tmp_path / "second"))
    second("dvc", "pull", "--quiet")
    second("dvc", "repro", "--force", "--single-item", "download")  # images are in no remote
    sweep = (*CLI, "sweep", "--share", "origin", "agg=avg,gem")
    with postgres_server() as store, mlflow_server(store, tmp_path / "artifacts", free_port()) as address:
        for project in (first, second):
            project.env["MLFLOW_TRACKING_URI"] = address
        workers = [
            subprocess.Popen(
                (*sweep, "--part", f"{number}/2"), cwd=project.folder, env=project.env,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for number, project in enumerate((first, second), 1)
        ]  # fmt: skip
        for worker in workers:
            printed, _ = worker.communicate()
            assert worker.returncode == 0, printed
            assert "1 done, 0 failed" in printed
        started = time.monotonic()
        for project in (first, second):
            assert "2 experiments, 2 of them finished before" in project(*sweep)
            table = project(*CLI, "experiments")
            assert "avg-" in table
            assert "gem-" in table
        assert time.monotonic() - started < 120
        client = mlflow.tracking.MlflowClient(address)
        (experiment,) = client.search_experiments(filter_string="name = 'vpr'")
        runs = client.search_runs([experiment.experiment_id])
        assert {run.data.params["agg.name"] for run in runs} == {"avg", "gem"}
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert all(run.data.metrics["val/recall_at_1"] >= 0 for run in runs)
