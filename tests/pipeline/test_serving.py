"""A model behind HTTP: `vpr serve` with its limits, and `mlflow models serve`, as a client sees them."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
import requests
from PIL import Image


@contextmanager
def running(project, command: list[str], port: int, env: dict[str, str]) -> Iterator[str]:
    """A server, and its address."""
    log = project.folder / f"serve-{port}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=project.folder, env=project.env | env, stdout=out, stderr=subprocess.STDOUT
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                if requests.get(f"{address}/ping", timeout=2).status_code == 200:
                    break
            except requests.ConnectionError:
                time.sleep(0.25)
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


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


LIMITS = {"body-mb": 4, "photos": 5, "megapixels": 2, "seconds": 3, "requests": 40}


@pytest.fixture(scope="module")
def server(project, first_run) -> Iterator[str]:
    """`vpr serve` on the smoke run's model, with small limits."""
    port = free_port()
    limits = [word for name, limit in LIMITS.items() for word in (f"--max-{name}", str(limit))]
    command = [
        sys.executable,
        "-c",
        "from vpr.commands.main import main; main()",
        "serve",
        "--port",
        str(port),
        *limits,
    ]
    with running(project, command, port, {"PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}) as address:
        yield address


def post(address: str, body: bytes | str) -> requests.Response:
    return requests.post(f"{address}/invocations", data=body, headers={"Content-Type": "application/json"}, timeout=120)


def ask(address: str, photos: list[str], **params) -> list[dict]:
    body = {"dataframe_split": {"columns": ["photo"], "data": [[photo] for photo in photos]}, "params": params}
    answer = post(address, json.dumps(body))
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
    printed = project("env", "PYTHONPATH=src", "python", "-m", "vpr.commands.main",
                   "localize", str(folder / rows["image"].iloc[0]), "--format", "json")  # fmt: skip
    (same,) = json.loads(printed[printed.index("[") :])
    (posted,) = ask(server, photos[:1])
    assert {k: v for k, v in same.items() if k not in ("photo", "predictions")} == pytest.approx(
        {k: v for k, v in posted.items() if k not in ("photo", "predictions")}, abs=1e-4
    )


def test_mlflow_s_own_server_gives_the_same_answers(project, server):
    run_id, port = project.runs().iloc[0]["run_id"], free_port()
    command = [tool("mlflow"), "models", "serve", "--env-manager", "local", "--workers", "1"]
    command += ["--model-uri", f"runs:/{run_id}/model", "--port", str(port)]
    env = {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db", "OMP_NUM_THREADS": "1"}
    _, photos = query_photos(project, 3)
    with running(project, command, port, env) as address:
        for one, other in zip(ask(address, photos), ask(server, photos), strict=True):
            assert one["predictions"][0] == pytest.approx(other["predictions"][0], abs=1e-4)


def test_all_three_forms_of_a_request_are_the_same(project, server):
    _, (photo,) = query_photos(project, 1)
    expected = ask(server, [photo])
    for body in ({"photos": [photo]}, {"dataframe_records": [{"photo": photo}]}):
        assert post(server, json.dumps(body)).json()["predictions"] == expected


def test_thirty_at_once_get_the_answers_they_get_alone(project, server):
    _, photos = query_photos(project, 5)
    alone = [ask(server, [photo])[0] for photo in photos]
    with ThreadPoolExecutor(30) as pool:
        together = list(pool.map(lambda k: ask(server, [photos[k % 5]])[0], range(30)))
    assert together == [alone[k % 5] for k in range(30)]


def test_what_is_no_photo_gets_an_error_and_the_others_their_answer(project, server):
    _, (photo,) = query_photos(project, 1)
    large = io.BytesIO()
    Image.new("L", (2000, 1001)).save(large, "PNG")
    sent = [base64.b64encode(b"a text").decode(), "%%%", "é", base64.b64encode(large.getvalue()).decode(), photo]
    text, garbled, accent, too_large, right = ask(server, sent, num_predictions=1)
    assert "not an image" in text["error"]
    assert "not in base64" in garbled["error"]
    assert "not in base64" in accent["error"]
    assert "2000 x 1001 pixels; the limit is 2 million" in too_large["error"]
    assert len(right["predictions"]) == 1


DIGITS = "9" * 5000
REFUSED = {
    "no json": ("no json", 400, "Invalid JSON"),
    "nothing": ("", 400, "Invalid JSON"),
    "not UTF-8": (b"\xff\xfe", 400, "Invalid JSON"),
    "deep json": ("[" * 1_000_000, 413, "too many values"),
    "deep mappings": ('{"photos":' * 100_000, 413, "too many values"),
    "a number of 5,000 digits": (
        f'{{"photos": [], "params": {{"num_predictions": {DIGITS}}}}}',
        400,
        "number out of range",
    ),
    "a list": ("[]", 400, "Input should be an object"),
    "no photos": ("{}", 400, "expected photos, dataframe_split or dataframe_records"),
    "two forms": ('{"photos": [], "dataframe_records": []}', 400, "expected photos, dataframe_split or"),
    "another column": ('{"dataframe_split": {"columns": ["x"], "data": [["y"]]}}', 400, "expected the column photo"),
    "a photo that is a number": ('{"photos": [3]}', 400, "photos.0: Input should be a valid string"),
    "a misspelt parameter": ('{"photos": [], "params": {"num_prediction": 3}}', 400, "params.num_prediction: Extra"),
    "a parameter out of range": ('{"photos": [], "params": {"num_predictions": 100000}}', 400, "less than or equal"),
    "a confidence of NaN": ('{"photos": [], "params": {"min_confidence": NaN}}', 400, ""),
    "too many photos": (json.dumps({"photos": ["a"] * 6}), 413, "6 photos; the limit is 5 per request"),
    "too large": (os.urandom(5_000_000), 413, "the limit is 4 MB per request"),
    "ten times too large": (bytes(40_000_000), 413, "the limit is 4 MB per request"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_answered_is_refused_shortly_and_the_server_goes_on(project, server, name):
    body, status, message = REFUSED[name]
    try:
        answer = post(server, body)
    except requests.ConnectionError:
        assert name == "ten times too large"  # more than anyone waits for
    else:
        assert answer.status_code == status, answer.text
        assert message in answer.json()["error"]
        assert len(answer.content) < 500
    _, (photo,) = query_photos(project, 1)
    assert "predictions" in ask(server, [photo])[0]


def test_a_request_that_takes_too_long_is_given_up(server):
    began = time.monotonic()
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        headers = f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: 1000"
        slow.sendall(f"POST /invocations HTTP/1.1\r\n{headers}\r\n\r\n{{".encode())
        assert b"408" in slow.recv(1000)
    assert LIMITS["seconds"] <= time.monotonic() - began < LIMITS["seconds"] + 5


def test_clients_that_ask_for_nothing_are_not_in_the_way(server):
    host, port = server.removeprefix("http://").split(":")
    with ExitStack() as stack:
        for _ in range(2 * LIMITS["requests"]):
            stack.enter_context(socket.create_connection((host, int(port))))
        assert requests.get(f"{server}/ping", timeout=5).status_code == 200


def test_photos_whose_turn_comes_after_the_time_is_over_are_not_looked_at(server):
    image = io.BytesIO()
    Image.linear_gradient("L").resize((1400, 1400)).convert("RGB").save(image, "JPEG")
    photos = [base64.b64encode(image.getvalue()).decode()] * 5
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: post(server, json.dumps({"photos": photos})), range(40)))
    assert {answer.status_code for answer in answers} <= {200, 503}
    late = [a for a in answers if a.status_code == 503 or "not looked at" in a.text]
    assert late
    assert any(answer.status_code == 200 and "not looked at" not in answer.text for answer in answers)
