"""A ``python`` and a ``dvc`` that have imported the heavy libraries already, so that a test's stages start at once.

A stage spends most of a tiny city's time on importing torch, Lightning and MLflow. Here one process imports them and
forks for each command that a scratch project runs as ``python -m module``, ``python -c code`` or ``dvc``, with the
arguments, environment, working directory and streams of that command. The project's own modules are imported afresh
each time. What is killed by a test starts from Python itself.
"""

from __future__ import annotations

import atexit
import copy
import functools
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

import psutil
from ruamel.yaml import YAML

LIBRARIES = [
    *("dvc.cli", "dvc.commands.experiments.run", "dvc.repo.experiments.executor.local", "dvc.repo.reproduce"),
    *("faiss", "lightning", "matplotlib.pyplot", "mlflow", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store"),
    *("numba", "pandas", "pyarrow.parquet", "pydantic", "pytorch_metric_learning.losses", "scipy.stats"),
    *("torch", "torchvision.transforms.v2", "torchcodec.decoders", "PIL.JpegImagePlugin", "pyarrow.dataset", "jinja2"),
    *("cffi", "filelock", "git", "IPython", "utm", "opentelemetry.sdk.trace", "alembic"),
]

# It starts in 20 ms, as it imports next to nothing.
CLIENT = """#!{python} -IS
import json, os, socket, sys
if sys.argv[0].endswith("/dvc"):
    sys.argv[1:1] = ["-m", "dvc"]
if sys.argv[1:2] not in (["-m"], ["-c"]):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"streams"], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    code = server.recv(1)
sys.exit(code[0] if code else "the warm Python is gone")
"""


def start(folder: Path, owner: int, env: dict[str, str]) -> Path:
    """Start the process that forks, and wait until it answers.

    Args:
        folder: gets the commands, the socket and a log.
        owner: the process with whose end it ends.
        env: its environment.

    Returns:
        The folder to put in front of ``PATH``.
    """
    folder.mkdir()
    address = folder / "socket"
    for name in ("python", "dvc"):
        (folder / name).write_text(CLIENT.format(python=sys.executable, address=str(address)), encoding="utf-8")
        (folder / name).chmod(0o755)
    with (folder / "log").open("w") as log:
        subprocess.run(
            [sys.executable, __file__, str(address), str(owner)],
            env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, check=True,
        )  # fmt: skip
    return folder


def serve(address: str, owner: int) -> None:
    """Fork for each connection, until the owner ends."""
    for library in LIBRARIES:
        __import__(library)
    parse_yaml_once()
    gc.collect()
    gc.freeze()  # so that forks share this memory
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        server.settimeout(1)
        if os.fork():
            os._exit(0)  # now it answers
        while psutil.pid_exists(owner):
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                server.close()
                answer(connection)
            connection.close()


def parse_yaml_once() -> None:
    """Let DVC parse a text once: it reads params.yaml and dvc.lock anew for every stage, and that takes long."""
    load = YAML.load
    parsed = functools.lru_cache(maxsize=256)(lambda text: load(YAML(typ="safe"), text))

    def load_copy(self: YAML, stream: Any) -> Any:
        if self.typ == ["safe"] and isinstance(stream, str):
            return copy.deepcopy(parsed(stream))
        return load(self, stream)

    YAML.load = load_copy


def answer(connection: socket.socket) -> NoReturn:
    """Run what a client asks for in a process of its own, and send it the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.setblocking(True)
    _, streams, _, _ = socket.recv_fds(connection, len(b"streams"), 3)
    with connection.makefile("rb") as request:
        (kind, code, *arguments), folder, environment = json.load(request)
    worker = os.fork()
    if worker:
        ended = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        connection.sendall(bytes([ended if ended >= 0 else 128 - ended]))
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    path = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:1] = [folder, *(str(Path(folder, part)) for part in path)]
    sys.argv = [kind, *arguments]
    leave(run(kind, code))


def run(kind: str, code: str) -> int:
    """Run a module or a piece of code; its exit code."""
    try:
        if kind == "-m":
            runpy.run_module(code, run_name="__main__", alter_sys=True)
        else:
            exec(code, {"__name__": "__main__"})
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def leave(code: int) -> NoReturn:
    """End as the interpreter does, except that it takes no module apart, which would touch all memory: two seconds."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
