"""A user's mistake is one line; only our bugs have a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from vpr.config.errors import UserError, exit_code, run_stage


class Killed(Dataset):
    """Its reader is killed, as the kernel does when the memory is full."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1)


def said(call, capsys) -> str:
    assert exit_code("train", call, "") == 1
    return capsys.readouterr().err


def test_a_killed_loader_process_is_said_to_be_one(capsys):
    message = said(lambda: next(iter(DataLoader(Killed(), num_workers=1))), capsys)
    assert message.startswith("train: a loader process was killed, most likely because the memory was full; lower")
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("params.yaml: agg is 3"), "train: params.yaml: agg is 3\n"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; finished work is kept; fix this"),
        (MemoryError("40 GiB"), "out of memory: 40 GiB; lower the batch sizes"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: CUDA out of memory; lower the batch sizes"),
    ],
)
def test_what_the_machine_refuses_is_one_line(error, message, capsys):
    def call() -> int:
        raise error

    printed = said(call, capsys)
    assert message in printed
    assert len(printed.splitlines()) == 1


def test_a_bug_keeps_its_traceback(capsys):
    printed = said(lambda: {}["nothing"], capsys)
    assert "Traceback" in printed
    assert "please report it" in printed


def test_a_letter_that_the_terminal_has_not_is_printed_as_its_code():
    code = "from vpr.config.errors import exit_code; exit_code('c', lambda: print('Besan\u00e7on'), '')"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "Besan\\xe7on\n"


@pytest.fixture
def python_s_interrupt():
    """Ctrl-C as Python begins with; a shell ignores it for what runs in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_s_interrupt")
def test_an_interrupt_that_a_library_swallowed_still_ends_the_stage(capsys):
    def main() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # to this thread; another would leave it waiting

    with pytest.raises(SystemExit) as ended:
        run_stage(main)
    assert ended.value.code == 130
    assert "interrupted; the next `dvc repro` continues" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_stage_whose_dvc_died_while_it_started_ends_at_once():
    code = "from vpr.config.end_with_dvc import end_with_dvc; end_with_dvc(); print('goes on')"
    # The shell ends at once, and so what it has started is an orphan when it looks for DVC.
    orphan = f'(sleep 0.5; {sys.executable} -c "{code}") & sleep 0'
    env = os.environ | {"DVC_STAGE": "train", "PYTHONPATH": "src"}
    done = subprocess.run(["sh", "-c", orphan], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, "DVC has ended" in done.stderr) == ("", True)
