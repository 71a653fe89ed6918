"""Sweeps: points and names, and a real one through DVC's queue."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr.config.errors import UserError
from vpr.config.params import Params
from vpr.experiments.dvc_queue import threads_of_each
from vpr.experiments.sweep import check_settings, experiments, grid

ROOT = Path(__file__).parents[2]
CLI = ("python", "-c", "import sys; sys.path.insert(0, 'src'); from vpr.commands.main import main; main()")

SWEEP = ("sweep", "agg=avg", "train.max_memory_gb=null,1e-9")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("aggg=gem", r"has no key 'aggg' \(did you mean 'agg'"),
        ("agg=foo", "aggregators has no 'foo'; choose from avg, max, gem"),
        ("agg=gem,gemm", r"aggregators has no 'gemm' \(did you mean 'gem'"),
        ("train.seeed=1", r"train has no key 'seeed' \(did you mean 'seed'"),
        ("train.seed.x=1", r"train\.seed has no key 'x'"),
    ],
)
def test_a_misspelt_key_or_name_is_refused_before_anything_is_queued(setting, message):
    with pytest.raises(UserError, match=message):
        check_settings([setting], Params.read(ROOT / "params.yaml"))
    check_settings(
        ["agg=gem,avg", "+train.new=1", "datasets.synthetic.train.lr=0.1"], Params.read(ROOT / "params.yaml")
    )


def test_a_grid_is_every_combination_and_commas_in_brackets_stay():
    assert grid(["agg=avg,gem", "loss=A"]) == [["agg=avg", "loss=A"], ["agg=gem", "loss=A"]]
    assert grid(["eval_sets=[val,test],[val]"]) == [["eval_sets=[val,test]"], ["eval_sets=[val]"]]
    assert grid([]) == [[]]
    for wrong in ("agg", "=avg", "agg="):
        with pytest.raises(UserError, match="expected key=value,value"):
            grid([wrong])


@given(st.lists(st.sampled_from(["a=1", "a=2", "b=x/y", "b=[1, 2]", "c=~^:?*"]), min_size=1, max_size=3, unique=True))
def test_names_follow_from_the_changes_and_the_commit_and_suit_git(point):
    (one,), (other,) = experiments([point], "commit"), experiments([point], "another")
    assert one == experiments([point], "commit")[0]
    assert one.name != other.name
    assert set(one.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
    assert not one.name.startswith((".", "-"))
    assert one.overrides == tuple(point)


def test_experiments_side_by_side_share_the_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert threads_of_each(1) == {}
    assert [threads_of_each(jobs)["OMP_NUM_THREADS"] for jobs in (2, 3, 20)] == ["4", "2", "1"]


@pytest.fixture(scope="module")
def swept(project):
    """The project after a sweep of one sound setting and one that no machine can do has run."""
    output = project(*CLI, *SWEEP, fails=True)
    return project, output


def test_a_failed_experiment_says_why_and_stops_no_other(swept):
    _, output = swept
    assert "1 done, 1 failed" in output
    assert "NTXentLoss does not fit" in output


def test_an_experiment_in_a_temporary_copy_shares_images_store_and_cache(swept):
    """DVC's queue runs each experiment in a copy of what git has."""
    copy, output = swept
    (name,) = [
        line.split()[2].rstrip(":") for line in output.splitlines() if line.startswith("queued") and "avg-null" in line
    ]
    runs = copy.runs()
    (run,) = runs[runs["tags.dvc.experiment"] == name].to_dict("records")
    assert run["params.agg.name"] == "avg"
    assert run["metrics.training/seconds"] > 0
    assert len(runs) == 2
    assert len(list((copy.folder / "data/images").glob("synthetic-*"))) == 1
    assert name in copy("dvc", "exp", "show", "--csv")
    assert copy.recalls("val")["descriptor_dim"] == 512, "the workspace was touched"


def test_what_has_finished_does_not_run_again_and_what_failed_is_left_to_do(swept):
    copy, _ = swept
    output = copy(*CLI, "sweep", "agg=avg", "train.max_memory_gb=null")
    assert "1 experiments, 1 of them already finished" in output
    assert "queued" not in output
    code = "import sys; sys.path.insert(0, 'src'); from vpr.experiments.sweep import finished; print(*finished())"
    (name,) = [name for name in copy("python", "-c", code).split() if name.startswith("avg-")]
    assert name.startswith("avg-null-")


def test_the_table_shows_components(swept):
    copy, _ = swept
    compared = copy(*CLI, "compare", "--format", "csv")
    assert compared.splitlines()[0].startswith("run,agg,loss")
    assert {line.split(",")[1] for line in compared.splitlines()[1:] if "," in line} >= {"avg", "cosplace"}


def test_two_runs_are_compared_query_by_query_and_on_a_page(swept):
    copy, _ = swept
    names = copy.runs()["tags.mlflow.runName"].tolist()
    output = copy(*CLI, "compare", *names[:2], "--page", "two.html")
    assert "recall@1" in output
    assert "p = " in output
    page = (copy.folder / "two.html").read_text(encoding="utf-8")
    assert f"{names[0]} beside {names[1]}" in page


def test_uncommitted_changes_are_refused_because_the_queue_would_not_see_them(swept):
    copy, _ = swept
    params = copy.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text + "# a change\n", encoding="utf-8")
    try:
        assert "commit or stash ['params.yaml']" in copy(*CLI, "sweep", "agg=avg", fails=True)
    finally:
        params.write_text(text, encoding="utf-8")


def test_the_paper_s_runs_are_listed(swept):
    copy, _ = swept
    output = copy(*CLI, "sweep", "--paper", "--dry-run")
    assert output.count("dataset=gsv_xs") == 28
    assert "aggregators.convap.out_channels=64" in output
