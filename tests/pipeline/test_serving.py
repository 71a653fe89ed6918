"""The logged model behind `mlflow models serve`, over real HTTP."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest
import requests


@pytest.fixture(scope="module")
def server(project, first_run):
    """The served model of the smoke run, and its address."""
    run_id = project.runs().iloc[0]["run_id"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = project.env | {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db", "OMP_NUM_THREADS": "1"}
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", f"runs:/{run_id}/model", "--port", str(port), "--workers", "1"]
    log = project.folder / "serve.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=project.folder, env=env, stdout=out, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                if requests.get(f"{address}/ping", timeout=2).status_code == 200:
                    break
            except requests.ConnectionError:
                time.sleep(0.5)
        else:
            pytest.fail(f"the server did not come up:\n{log.read_text()[-2000:]}")
        yield address
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        for child in children:
            child.terminate()
        process.wait(30)
        log.unlink()


def ask(address: str, photos: list[str], **params) -> list[dict]:
    body = {"dataframe_split": {"columns": ["photo"], "data": [[photo] for photo in photos]}, "params": params}
    answer = requests.post(f"{address}/invocations", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def query_photos(project, number: int) -> tuple[pd.DataFrame, list[str]]:
    rows = pd.read_parquet(project.folder / "data/descriptors/val/queries.parquet").head(number)
    root = (project.folder / "data/images_root.txt").read_text().strip().partition(":")[2]
    folder = project.folder / "data/images" / root
    return rows, [base64.b64encode((folder / image).read_bytes()).decode() for image in rows["image"]]


def test_photos_posted_are_located_as_the_pipeline_located_them(project, server):
    rows, photos = query_photos(project, 5)
    predictions = pd.read_parquet(project.folder / "data/predictions/val.parquet")
    first = predictions[predictions["rank"] == 1].set_index("query")
    for image, answer in zip(rows["image"], ask(server, photos), strict=True):
        assert answer["predictions"][0]["image"] == first.loc[image, "prediction"]
        assert len(answer["predictions"]) == 5
    # The command answers the same.
    folder = project.folder / "data/images" / (project.folder / "data/images_root.txt").read_text().strip()[5:]
    printed = project("python", "-c", "import sys; sys.path.insert(0, 'src'); from vpr.cli import main; main()",
                   "localize", str(folder / rows["image"].iloc[0]), "--json")  # fmt: skip
    (same,) = json.loads(printed[printed.index("[") :])
    (posted,) = ask(server, photos[:1])
    assert {k: v for k, v in same.items() if k not in ("photo", "predictions")} == pytest.approx(
        {k: v for k, v in posted.items() if k not in ("photo", "predictions")}, abs=1e-4
    )


def test_thirty_at_once_get_the_answers_they_get_alone(project, server):
    _, photos = query_photos(project, 5)
    alone = [ask(server, [photo])[0] for photo in photos]
    with ThreadPoolExecutor(30) as pool:
        together = list(pool.map(lambda k: ask(server, [photos[k % 5]])[0], range(30)))
    assert together == [alone[k % 5] for k in range(30)]


def test_what_is_no_photo_gets_an_error_and_the_server_stays_up(project, server):
    _, (photo,) = query_photos(project, 1)
    text, garbled, right = ask(server, [base64.b64encode(b"a text").decode(), "%%%", photo], num_predictions=1)
    assert "not an image" in text["error"]
    assert "not in base64" in garbled["error"]
    assert len(right["predictions"]) == 1
    refused = requests.post(
        f"{server}/invocations", json={"dataframe_split": {"columns": ["x"], "data": [["y"]]}}, timeout=60
    )
    assert refused.status_code == 400
    refused = requests.post(
        f"{server}/invocations", data="no json", headers={"Content-Type": "application/json"}, timeout=60
    )
    assert refused.status_code == 400
    assert ask(server, [photo], num_predictions=1) == [{**right, "photo": "photo 1"}]
