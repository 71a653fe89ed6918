"""Compare the environment of a run's training with this one."""

from __future__ import annotations

from vpr.config.installed_versions import installed_versions
from vpr.experiments.runs import Run, run_log
from vpr.training.summary import TrainingLog


def environment_differences(run: Run) -> list[tuple[str, str, str]]:
    """Return name, then and now of everything that differs; ``-`` for a package that is not installed.

    Raises:
        UserError: if the run has no record of its environment, such as one trained on another machine.
    """
    then, now = run_log(run), TrainingLog.of_this_process()
    rows = [(name, getattr(then, name), getattr(now, name)) for name in ("git_commit", "machine")]
    versions = installed_versions()
    rows += [
        (name, then.versions.get(name, "-"), versions.get(name, "-")) for name in sorted({*then.versions, *versions})
    ]
    return [row for row in rows if row[1] != row[2]]
