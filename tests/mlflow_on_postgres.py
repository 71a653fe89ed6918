"""MLflow's server, and PostgreSQL of Debian's package to keep its runs in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

BIN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of a database in a PostgreSQL server of the test's own."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if not BIN or (as_user and subprocess.run(["id", "postgres"], check=False, capture_output=True).returncode):
        pytest.skip("Debian's package postgresql is not there")
    folder, port = Path(tempfile.mkdtemp()), free_port()
    try:
        if as_user:
            shutil.chown(folder, "postgres")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = [*as_user, str(BIN[-1] / "pg_ctl"), "-D", f"{folder}/data", "-w"]
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
        subprocess.run([*as_user, str(BIN[-1] / "initdb"), "-D", f"{folder}/data", "-U", "vpr", "-A", "trust"], **quiet)
        subprocess.run([*control, "-o", options, "-l", f"{folder}/log", "start"], **quiet)
        try:
            subprocess.run(
                [str(BIN[-1] / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "vpr", "mlflow"], **quiet
            )
            yield f"postgresql://vpr@127.0.0.1:{port}/mlflow"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(folder)


@contextmanager
def mlflow_server(store: str, artifacts: Path, port: int) -> Iterator[str]:
    command = [str(Path(sys.executable).parent / "mlflow"), "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(artifacts)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = psutil.Popen(command, env=env, **quiet)
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            time.sleep(0.1)
        else:
            pytest.fail("the MLflow server does not come up")
        yield f"http://127.0.0.1:{port}"
    finally:
        for process in [*server.children(recursive=True), server]:
            process.kill()
        server.wait(30)
