"""An object store: a remote that a second clone pulls from, and a database in it. A local server speaks S3."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from lance_photos import DIM, FACTS, photos
from vpr.serving.lance_index import LanceIndex, open_index

pytest.importorskip("moto")


@pytest.fixture
def bucket(monkeypatch):
    """The address of a server, with a bucket named ``vpr``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    settings = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    settings |= {"AWS_ENDPOINT": address, "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        for _ in range(100):
            try:
                request = urllib.request.Request(f"{address}/vpr", method="PUT")
                with urllib.request.urlopen(request, timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield "s3://vpr"
        server.terminate()


def test_a_database_in_an_object_store(bucket):
    where = f"{bucket}/database"
    rows, descriptors = photos(300)
    index = LanceIndex.create(where, FACTS, None, rows, DIM)
    index.add(rows, descriptors)
    index.build_approximate("IVF_PQ")
    again = open_index(where)
    assert len(again) == 300
    assert again.search(descriptors[7:8], 1)[0].images["image"].item() == "7.jpg"
    assert LanceIndex.is_at(where)
    assert not LanceIndex.is_at(f"{bucket}/nothing")


def test_a_second_clone_pulls_from_it_and_reports_without_training(bucket, finished, tmp_path):
    first = finished[0].copy(tmp_path / "first")
    first.env |= {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    first("dvc", "remote", "add", "--default", "storage", f"{bucket}/cache")
    first("dvc", "remote", "modify", "storage", "endpointurl", os.environ["AWS_ENDPOINT"])
    first.commit("a remote")
    first("dvc", "push")
    first("git", "clone", "--quiet", str(first.folder), str(tmp_path / "second"))
    second = type(first).at(tmp_path / "second")
    second.env |= first.env
    second("dvc", "pull")
    assert (second.folder / "data/report.html").read_bytes() == (first.folder / "data/report.html").read_bytes()
    assert second.stages_run(second("dvc", "repro")) == {"record"}  # this clone's MLflow has no run yet
