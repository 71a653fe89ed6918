"""Promotion: a model takes the alias when it beats the holder by more than chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vpr.commands import main as cli
from vpr.experiments import store as store_module

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "store_folder", lambda: tmp_path / "mlruns")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def make_run(folder, name: str, found: np.ndarray) -> None:
    """A run with predictions on the validation set and something for a model."""
    mlflow = store_module.connect()
    predictions = pd.DataFrame({"query": [f"q{k}" for k in range(len(found))], "rank": 1})
    predictions["is_positive"] = pd.array(found.tolist(), dtype="boolean")
    (folder / "val.parquet").unlink(missing_ok=True)
    predictions.to_parquet(folder / "val.parquet")
    with mlflow.start_run(run_name=name):
        mlflow.log_params({"train.val_set": "val", "agg.name": "gem", "loss.name": "L"})
        mlflow.log_metric("val/recall_at_1", float(found.mean()))
        mlflow.log_artifact(str(folder / "val.parquet"), "predictions")
        mlflow.pyfunc.log_model(name="model", python_model=lambda model_input: model_input, pip_requirements=[])


def promote(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["vpr", "promote", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return stop.value.code, out if stop.value.code == 0 else err


def listed(monkeypatch, capsys) -> str:
    monkeypatch.setattr("sys.argv", ["vpr", "models"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    return capsys.readouterr().out


def holder() -> str:
    client = store_module.connect().tracking.MlflowClient()
    run_id = client.get_model_version_by_alias("vpr", "champion").run_id
    return client.get_run(run_id).info.run_name


def test_the_alias_goes_to_what_beats_its_holder_by_more_than_chance(store, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    base = rng.random(200) < 0.5
    slightly, clearly = base.copy(), base.copy()
    slightly[np.flatnonzero(~base)[:3]] = True
    clearly[np.flatnonzero(~base)[:30]] = True
    for name, found in (("base", base), ("slightly", slightly), ("clearly", clearly)):
        make_run(store, name, found)
    assert promote(monkeypatch, capsys, "base") == (
        0, "base is now vpr@champion, version 1: the first to hold the alias\n",
    )  # fmt: skip
    assert promote(monkeypatch, capsys, "base") == (0, "base is already vpr@champion, version 1\n")
    code, printed = promote(monkeypatch, capsys, "slightly")
    assert (code, holder()) == (1, "base")
    assert "base keeps vpr@champion: val: slightly finds 3 queries that base does not" in printed
    assert "may be chance" in printed
    code, printed = promote(monkeypatch, capsys, "clearly")
    assert (code, holder()) == (0, "clearly")
    assert "\nmodels:/vpr@champion" in listed(monkeypatch, capsys)
    assert "more than chance" in printed
    assert promote(monkeypatch, capsys, "base")[0] == 1
    code, printed = promote(monkeypatch, capsys, "nobody")
    assert (code, "no run has the name 'nobody'" in printed) == (1, True)
    code, printed = promote(monkeypatch, capsys, "base", "--set", "test")
    assert (code, "has no recalls on 'test'; choose --set from val" in printed) == (1, True)
