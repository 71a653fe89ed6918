"""What differs between the environment that a run was trained in and this one."""

from __future__ import annotations

from vpr.config.environment import installed_versions
from vpr.experiments.runs import Run, run_log
from vpr.training.summary import TrainingLog


def environment_differences(run: Run) -> list[tuple[str, str, str]]:
    """What differs, as name, then and now; ``-`` where it is not installed.

    Raises:
        UserError: if the run says nothing of its environment, as those of another machine's training do not.
    """
    then, now = run_log(run), TrainingLog.of_this_process()
    rows = [(name, getattr(then, name), getattr(now, name)) for name in ("git_commit", "machine")]
    versions = installed_versions()
    rows += [
        (name, then.versions.get(name, "-"), versions.get(name, "-")) for name in sorted({*then.versions, *versions})
    ]
    return [row for row in rows if row[1] != row[2]]
