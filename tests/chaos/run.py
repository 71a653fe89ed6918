"""Disturb the tiny pipeline at random moments, and hold the end against an undisturbed run: ``make chaos RUNS=100``.

Each run begins at a random stage. While it works, a stage, DVC or both are killed, by KILL, TERM or INT; or the disk is
full for a while; or the tracking server is gone for a while. Then ``dvc repro`` runs once more. In the end every output
has to be the same byte for byte, and MLflow has to have one finished run, one whole model, and no row of a curve twice.
With ``--out benchmarks/chaos.json``, the counts go into docs/pipeline.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import yaml

from scratch_project import TINY, Project

STAGES = [
    "check",
    "download",
    "verify",
    "sets",
    "resize",
    "train",
    "export",
    "extract",
    "evaluate",
    "index",
    "rerank",
    "report",
    "record",
]
KINDS = ["stage killed", "DVC killed", "both killed", "disk full", "server gone"]
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
DISK = "1g"
SETTINGS = [*TINY, "datasets.synthetic.train.max_epochs=3"]


class Chaos:
    """A finished tiny project, what it ended with, and ways to disturb it.

    Args:
        project: finished and committed.
        undisturbed_env: environment of the runs that are not disturbed, where it is another.
    """

    def __init__(self, project: Project, undisturbed_env: dict[str, str] | None = None) -> None:
        self.project, self.folder = project, project.folder
        self.undisturbed_env = undisturbed_env or project.env
        self.expected = self.outputs()
        self.whole_s = 60.0

    def outputs(self) -> dict[str, str]:
        """Hashes of what the stages left, and their metrics, by path."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text(encoding="utf-8"))
        outs = [out for stage in lock["stages"].values() for out in stage.get("outs", [])]
        metrics = {str(p.relative_to(self.folder)): p.read_text() for p in (self.folder / "metrics").rglob("*.*")}
        return {**{out["path"]: out["md5"] for out in outs}, **metrics}

    def begin_at(self, stage: str, redraw: bool) -> None:
        """Forget a stage and all after it, the tracking store, and, where they are drawn again, the images."""
        shutil.rmtree(self.folder / "mlruns", ignore_errors=True)
        shutil.rmtree(self.folder / ".dvc" / "cache" / "runs", ignore_errors=True)  # or DVC would not run the stages
        if redraw:
            shutil.rmtree(self.folder / "data" / "images", ignore_errors=True)
        lock = self.folder / "dvc.lock"
        content = yaml.safe_load(lock.read_text(encoding="utf-8"))
        forgotten = STAGES[STAGES.index(stage) :]
        content["stages"] = {k: v for k, v in content["stages"].items() if k.partition("@")[0] not in forgotten}
        lock.write_text(yaml.safe_dump(content), encoding="utf-8")

    def start(self, env: dict[str, str] | None = None) -> psutil.Popen:
        """``dvc repro``, in a process group of its own."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = self.project.env | (env or {})
        return psutil.Popen(["dvc", "repro"], cwd=self.folder, env=environment, start_new_session=True, **quiet)

    def finish(self, env: dict[str, str] | None = None, *more: str) -> bool:
        """``dvc repro`` to the end; whether ``dvc.lock`` had to be fetched from git, as DVC writes it in place."""
        command = ["dvc", "repro", *more]
        environment = self.undisturbed_env | (env or {})

        def once() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
            )

        done = once()
        is_damaged = done.returncode != 0 and "dvc.lock" in done.stdout + done.stderr
        if is_damaged:
            self.project("git", "checkout", "dvc.lock")
            done = once()
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return is_damaged

    def check(self, store: Path) -> None:
        """Hold everything against the undisturbed run.

        Args:
            store: file of the MLflow store.
        """
        now = self.outputs()
        assert now == self.expected, {k for k in {*now, *self.expected} if now.get(k) != self.expected.get(k)}
        assert not list((self.folder / "data").glob("scratch/train-*/*"))
        with tempfile.TemporaryDirectory() as folder:  # MLflow keeps a store open, and this one is deleted soon
            copy = Path(folder) / f"{time.monotonic_ns()}.db"
            shutil.copy(store, copy)
            check_store(f"sqlite:///{copy}")

    def disturb(self, kind: str, stage: str, chance: random.Random) -> bool:
        """A run from a stage on with one disturbance, and the run after it.

        A run that has ended before it could be disturbed does not count; the next is disturbed sooner.

        Returns:
            Whether ``dvc.lock`` had to be fetched from git.
        """
        share = 1.0 - STAGES.index(stage) / len(STAGES)
        after_s = chance.uniform(0.05, 0.95) * share * self.whole_s
        while True:
            self.begin_at(stage, redraw=stage in ("check", "download") and chance.random() < 0.7)
            result = self._with_server(after_s, chance) if kind == "server gone" else self._once(kind, after_s, chance)
            if result is not None:
                return result
            after_s *= 0.6

    def _once(self, kind: str, after_s: float, chance: random.Random) -> bool | None:
        running = self.start()
        try:
            running.wait(after_s)
            return None
        except psutil.TimeoutExpired:
            pass
        if kind == "disk full":
            with self._full_disk(), suppress(psutil.TimeoutExpired):
                running.wait(chance.uniform(0.5, 8))
        else:
            how = chance.choice(SIGNALS)
            for process in {"stage killed": stages, "DVC killed": alone, "both killed": group}[kind](running):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(how)
        running.wait(300)
        damaged = self.finish()
        self.check(self.folder / "mlruns" / "mlflow.db")
        return damaged

    @contextmanager
    def _full_disk(self) -> Iterator[None]:
        filler = self.folder / ".filler"
        with filler.open("wb") as file:
            while (free := shutil.disk_usage(self.folder).free) > 4096:
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), file.tell(), free)
                file.seek(0, os.SEEK_END)
        try:
            yield
        finally:
            filler.unlink()

    def _with_server(self, after_s: float, chance: random.Random) -> bool | None:
        """The tracking server dies, and comes back while the run goes on or after it."""
        store = self.folder / "mlruns"
        store.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        server = self._server(port, store)
        try:
            running = self.start(env)
            try:
                running.wait(after_s)
                return None
            except psutil.TimeoutExpired:
                kill_all(server)
            time.sleep(chance.uniform(0, 10))
            server = self._server(port, store)
            assert running.wait(300) == 0, "a run must not fail because of its tracking server"
            damaged = self.finish(env, "--force", "--single-item", "record")
        finally:
            kill_all(server)
        self.check(store / "server.db")
        return damaged

    def _server(self, port: int, store: Path) -> psutil.Popen:
        command = ["mlflow", "server", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{store}/server.db", "--artifacts-destination", f"{store}/files"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        env = self.project.env | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = psutil.Popen(command, cwd=self.folder, env=env, start_new_session=True, **quiet)
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return server
            time.sleep(0.1)
        raise AssertionError("the MLflow server does not come up")


def check_store(uri: str) -> None:
    """One finished run, one whole model, and no row of its curve twice."""
    import mlflow

    client = mlflow.tracking.MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'vpr'")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"], [(r.info.run_name, r.info.status) for r in runs]
    (run,) = runs
    models = client.search_logged_models([experiment.experiment_id])
    assert [str(model.status) for model in models] == ["READY"], [str(model.status) for model in models]
    curve = [name for name in run.data.metrics if name.startswith("training/")]
    assert "training/loss" in curve
    for name in curve:
        steps = [row.step for row in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps)), (name, steps)


def stages(dvc: psutil.Popen) -> list[psutil.Process]:
    """The stage that DVC runs; waits for the next one between two."""
    for _ in range(500):
        with suppress(psutil.Error):
            found = [p for p in dvc.children(recursive=True) if "vpr.stages." in " ".join(p.cmdline())]
            if found:
                return found
        if dvc.poll() is not None:
            return []
        time.sleep(0.01)
    return []


def alone(dvc: psutil.Popen) -> list[psutil.Process]:
    return [dvc]


def group(dvc: psutil.Popen) -> list[psutil.Process]:
    """DVC and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        return [dvc, *dvc.children(recursive=True)]
    return []


def kill_all(process: psutil.Popen) -> None:
    for each in group(process):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(30)


def finished_project(folder: Path) -> Project:
    """The tiny pipeline, run once, and committed."""
    project = Project(folder)
    project("dvc", "exp", "run", *[part for value in SETTINGS for part in ("-S", value)])
    project.commit("a finished run")
    return project


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A disk of its own for a folder, where that is allowed; whether it is."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    is_mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2, help="projects that are disturbed at the same time")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--out", type=Path, help="file for the counts, such as benchmarks/chaos.json")
    args = parser.parse_args()
    print(f"seed {args.seed}; the undisturbed run comes first", flush=True)
    counts: dict[str, dict[str, int]] = {}
    failures: list[str] = []
    began = time.monotonic()
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        disks = [stack.enter_context(small_disk(top / f"disk{k}")) for k in range(args.workers)]
        kinds = [kind for kind in KINDS if kind != "disk full" or all(disks)]
        first = finished_project(top / "disk0" / "project")
        copies = [first, *(first.copy(top / f"disk{k}" / "project") for k in range(1, args.workers))]
        crowd = [Chaos(project) for project in copies]
        started = time.monotonic()
        crowd[0].begin_at("check", redraw=True)
        crowd[0].finish()
        crowd[0].check(crowd[0].folder / "mlruns" / "mlflow.db")
        for chaos in crowd:
            chaos.whole_s = time.monotonic() - started
        print(f"undisturbed: {crowd[0].whole_s:.0f} s", flush=True)

        def one(number: int) -> None:
            chance = random.Random(args.seed + number)
            kind, stage = kinds[number % len(kinds)], chance.choice(STAGES)
            chaos = crowd.pop()
            count = counts.setdefault(kind, {"equal": 0, "different": 0, "dvc.lock from git": 0})
            try:
                count["dvc.lock from git"] += chaos.disturb(kind, stage, chance)
                count["equal"] += 1
                outcome = "equal"
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}"
                count["different"] += 1
                failures.append(f"run {number}, {kind} from {stage} on: {outcome}")
                chaos.project("git", "checkout", "dvc.lock")
            finally:
                crowd.append(chaos)
            print(f"{time.monotonic() - began:5.0f} s: run {number}, {kind} from {stage} on: {outcome}", flush=True)
            done = sum(count["equal"] for count in counts.values()) + len(failures)
            result = {"runs": done, "seed": args.seed, "kinds": counts, "failures": failures, "machine": machine()}
            if args.out is not None:
                args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")

        with ThreadPoolExecutor(args.workers) as pool:
            list(pool.map(one, range(args.runs)))
    print(f"{sum(count['equal'] for count in counts.values())} of {args.runs} equal; {args.out}")
    sys.exit(bool(failures))


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
