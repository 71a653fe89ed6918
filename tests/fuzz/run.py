"""Attack every target in turn with random inputs, for a time: ``make fuzz SECONDS=600``.

A finding is shrunk, written into the corpus, which the tests replay, and printed; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import Phase, given, seed, settings

from fuzz.targets import CORPUS, TARGETS, Target

EXAMPLES = 25  # for a target in a round
WORKER_S = 60.0  # lifetime of a process


class TookTooLong(BaseException):
    """Not an ``Exception``, so that no reader takes it for an error in its input."""


@contextmanager
def limited(seconds: float) -> Any:
    """End what takes longer."""

    def stop(*_: Any) -> None:
        raise TookTooLong(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attack(target: Target, content: bytes) -> None:
    """Give a target an input; a finding is an exception."""
    with warnings.catch_warnings(), limited(target.seconds):
        warnings.simplefilter("ignore")  # libraries warn of odd input
        try:
            target.attack(content)
        except TookTooLong as error:
            raise AssertionError(str(error)) from None


def one_round(target: Target, number: int, last: Path) -> tuple[int, str]:
    """Some random inputs: how many, and the kind of finding, ``""`` if there is none.

    Args:
        number: seeds them.
        last: file that holds each input while it is read; in the end the smallest that is a finding.
    """
    inputs = 0

    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(target.inputs)
    def go(content: bytes) -> None:
        nonlocal inputs
        inputs += 1
        last.write_bytes(content)
        attack(target, content)

    try:
        go()
    except Exception as error:
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "src/vpr" in frame.filename]
        where = f"{ours[-1].filename}:{ours[-1].lineno}" if ours else "no file of ours"
        print(f"{type(error).__name__} in {where}: {str(error)[:200]}", flush=True)
        return inputs, f"{type(error).__name__} in {where}"
    return inputs, ""


def keep(name: str, kind: str, content: bytes) -> None:
    """Put a finding into the corpus, one of each kind."""
    file = CORPUS / name / f"finding-{hashlib.sha256(kind.encode()).hexdigest()[:12]}"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    print(f"{name}: a finding, kept as {file}", flush=True)


def worker(names: list[str], seconds: float, number: int, folder: Path) -> None:
    """Attack in this process; what is counted is in ``folder`` after each round, should the process crash."""
    spent = json.loads((folder / "spent.json").read_text())  # by earlier processes
    counts: dict[str, Any] = {name: {"inputs": 0, "findings": 0, "seconds": 0.0} for name in names}
    (folder / "counts.json").write_text(json.dumps(counts))
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        name = min(counts, key=lambda each: spent[each] + counts[each]["seconds"])  # each gets the same time
        (folder / "name").write_text(name)
        started = time.monotonic()
        inputs, found = one_round(TARGETS[name], number, folder / "last")
        if found:
            keep(name, found, (folder / "last").read_bytes())
        count = counts[name]
        count["inputs"] += inputs
        count["findings"] += bool(found)
        count["seconds"] += time.monotonic() - started
        number += 1
        (folder / "counts.json").write_text(json.dumps(counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    args = parser.parse_args()
    if args.worker is not None:
        worker(args.targets, args.seconds, args.seed, args.worker)
        return
    print(f"seed {args.seed}")
    totals = {name: {"inputs": 0, "findings": 0, "seconds": 0.0} for name in args.targets}
    began, number = time.monotonic(), args.seed
    while (left := began + args.seconds - time.monotonic()) > 0:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-W", "ignore", "-m", "fuzz.run", "--seed", str(number), "--worker", folder]
            command += ["--seconds", str(min(left, WORKER_S)), *args.targets]
            spent = {name: total["seconds"] for name, total in totals.items()}
            Path(folder, "spent.json").write_text(json.dumps(spent))
            started = time.monotonic()
            done = subprocess.run(command, check=False, env=os.environ | {"TQDM_DISABLE": "1"})
            counts = json.loads(Path(folder, "counts.json").read_text())
            for name, count in counts.items():
                for what in totals[name]:
                    totals[name][what] += count[what]
            if done.returncode != 0:  # crashed, or was killed for its memory
                name = Path(folder, "name").read_text()
                print(f"{name}: the reader ended with {done.returncode}")
                keep(name, f"ended with {done.returncode}", Path(folder, "last").read_bytes())
                totals[name]["findings"] += 1
                totals[name]["seconds"] += time.monotonic() - started  # so that the others get their turn
        number += 10_000
        print(f"{time.monotonic() - began:5.0f} s: {sum(t['inputs'] for t in totals.values()):,} inputs", flush=True)
    for name, total in totals.items():
        print(f"{name}: {total['inputs']:,} inputs, {total['findings']} findings, {total['seconds']:.0f} s")
    idle = [name for name, total in totals.items() if not total["inputs"]]
    if idle:
        print(f"no inputs for {', '.join(idle)}; give more SECONDS")
    sys.exit(bool(idle) or any(total["findings"] for total in totals.values()))


if __name__ == "__main__":
    main()
