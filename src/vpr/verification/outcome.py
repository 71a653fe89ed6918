"""Print the outcome of the verify stage, and decide whether to stop."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from vpr.config.errors import UserError
from vpr.data.manifest import DATABASE, QUERY
from vpr.retrieval.positives import positive_rule
from vpr.verification.checks import Verified, kind_of
from vpr.verification.params import VerifyParams


def problem_summary(problems: pd.DataFrame, report: Path) -> str:
    """Summarise problems by kind, with the number of rows and an example of each."""
    kinds = problems.assign(kind=kind_of(problems["problem"]))
    lines = [f"{len(problems)} problems in the dataset, all listed in {report}:"]
    for (severity, kind), rows in kinds.groupby(["severity", "kind"]):
        first = rows.iloc[0]
        where = " ".join(part for part in (first["role"], first["set"], first["image"]) if part)
        says = "" if first["problem"] == kind else f": {first['problem']}"
        example = f" ({'' if len(rows) == 1 else 'first: '}{where}{says})" if where else ""
        lines.append(f"  {len(rows):6d} x {severity}: {kind}{example}")
    return "\n".join(lines)


def all_problems(checked: Verified, params: VerifyParams) -> pd.DataFrame:
    """Return differing counts, followed by the problems of rows."""
    severity = "error" if params.on_count_difference == "fail" else "warning"
    differing = [{"severity": severity, "role": "", "set": "", "image": "", "problem": d} for d in checked.differences]
    return pd.DataFrame([*differing, *checked.problems.to_dict("records")], columns=checked.problems.columns)


def stop_on_problems(checked: Verified, params: VerifyParams, report: Path) -> None:
    """Print all problems, and stop if ``verify`` of ``params.yaml`` says so.

    Args:
        checked: Checked dataset.
        params: Section ``verify``.
        report: File that lists all problems.

    Raises:
        UserError: with what to do.
    """
    if len(checked.problems):
        print(problem_summary(checked.problems, report), file=sys.stderr)
    if checked.differences:
        print(
            "\n  ".join(["the content of sources differs from the expected one:", *checked.differences]),
            file=sys.stderr,
        )
        if params.on_count_difference == "fail":
            raise UserError(
                "fetch the complete sources, correct their `expected` in data/sources.yaml, or set "
                "verify.on_count_difference to warn to continue"
            )
    if (checked.problems["severity"] == "error").any() and params.on_problem == "fail":
        missing = (checked.problems["problem"] == "the file is missing").sum()
        if missing:
            print(
                f"{missing} files are missing: if images were deleted or DATA_ROOT has changed, run "
                "`dvc repro --force --single-item download`, then `dvc repro`",
                file=sys.stderr,
            )
        raise UserError(
            "correct the dataset, or set verify.on_problem in params.yaml to skip, which leaves rows with errors out"
        )


def print_counts(checked: Verified, page: Path) -> None:
    """Print how many images were verified, and the size of each evaluation set."""
    statistics = checked.statistics
    print(
        f"verified {statistics['num_images']:,} images, left out {statistics['num_left_out']:,} rows; "
        f"{statistics['num_leaked']:,} evaluation images are training images too; see {page}"
    )
    for caution in statistics["cautions"]:
        print(f"note: {caution}", file=sys.stderr)
    for name in checked.manifest.set_names():
        counts = statistics["sets"][name]
        rule = positive_rule(checked.manifest.part(name, DATABASE), checked.manifest.part(name, QUERY))
        print(
            f"  {name}: {counts['num_database']:,} database images, {counts['num_queries']:,} queries, "
            f"{counts['num_queries_without_positives']:,} without a positive; positives by {rule}"
        )
