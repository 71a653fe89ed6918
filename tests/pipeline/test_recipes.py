"""The recipes of CONTRIBUTING.md, followed to the letter in a scratch project."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from scratch_project import ROOT, Project

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(heading: str, language: str, number: int = 0) -> str:
    """A code block of a language under a heading."""
    section = GUIDE.split(f"### {heading}\n")[1].split("\n### ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[number]


FILES = {
    "model/aggregators/spoc.py": "An aggregator",
    "model/backbones/tiny.py": "A backbone",
    "training/losses/compact.py": "A loss",
    "sources/squares.py": "A dataset",
    "stages/count.py": "A stage",
    "commands/count.py": "A command",
    "report/distance_quartiles.py": "A report section",
}


def insert(path: Path, mark: str, before: str = "", after: str = "") -> None:
    """Put text before or after the only place that has the mark."""
    text = path.read_text(encoding="utf-8")
    assert text.count(mark) == 1, (path, mark)
    path.write_text(text.replace(mark, before + mark + after), encoding="utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory, warm) -> Project:
    """A project with a component, dataset, stage and section of each recipe, after `make docs`."""
    project = warm(Project(tmp_path_factory.mktemp("extended") / "project"))
    for file, heading in FILES.items():
        (project.folder / "src/vpr" / file).write_text(block(heading, "python"), encoding="utf-8")
    params = project.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    own = block("A dataset", "yaml").removeprefix("datasets:\n")
    params.write_text(re.sub(r"^(datasets:.*\n)", rf"\1{own}", text, flags=re.MULTILINE), encoding="utf-8")
    pipeline = project.folder / "dvc.yaml"
    text = pipeline.read_text(encoding="utf-8")
    pipeline.write_text(text.replace("\nplots:\n", f"\n{block('A stage', 'yaml')}\nplots:\n"), encoding="utf-8")
    report = project.folder / "src/vpr/report"
    section = "A report section"
    insert(report / "sections.py", "    other_curve: list[float] | None = None\n", after=block(section, "text", 0))
    made = "from vpr.report.distance_quartiles import distance_quartiles\n"
    insert(report / "set_section.py", "from vpr.report.map import map_section\n", before=made)
    insert(report / "set_section.py", "        cards=cards if model is None", before=block(section, "text", 1))
    insert(report / "report_page.js", '  byId("set-charts").replaceChildren', before=block(section, "js"))
    main = project.folder / "src/vpr/commands/main.py"
    insert(main, "import compare, ", after="count, ")
    insert(main, '"get models and photos": (models,', after=" count")
    for folder in ("docs", "metrics"):
        shutil.copytree(ROOT / folder, project.folder / folder)
    project.env["PYTHONPATH"] = "src"
    project("python", "-m", "tools.docs")
    shutil.rmtree(project.folder / "metrics")
    project.commit("components of my own")
    return project


def test_make_docs_adds_blocks_and_rows(extended):
    params = yaml.safe_load((extended.folder / "params.yaml").read_text(encoding="utf-8"))
    assert params["aggregators"]["spoc"] == {"sigma": 0.33}
    assert params["backbones"]["tiny"] == {"width": 16}
    assert params["losses"]["CompactLoss"] == {"power": 2.0}
    page = (extended.folder / "docs/components.md").read_text(encoding="utf-8")
    assert re.search(r"^\| `spoc` \| `sigma: 0.33` \|.*Babenko 2015", page, re.MULTILINE)
    assert "| `tiny` | `width: 16` |" in page
    assert "| `CompactLoss` | `power: 2` | no miner |" in page
    assert "`datasets.squares.images`" in (extended.folder / "docs/parameters.md").read_text(encoding="utf-8")


def test_but_for_the_new_rows_the_components_page_is_what_the_code_says(extended):
    rows = (extended.folder / "docs/components.md").read_text(encoding="utf-8").splitlines(keepends=True)
    new = ("| `spoc` |", "| `tiny` |", "| `CompactLoss` |")
    without = "".join(row for row in rows if not row.startswith(new))
    assert without == (ROOT / "docs/components.md").read_text(encoding="utf-8"), "run `make docs`"


def test_the_new_names_are_cases_of_the_contract_tests_and_keep_the_guards(extended):
    shutil.copytree(ROOT / "tests", extended.folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        "python",
        "-m",
        "pytest",
        "--assert=plain",
        "-v",
        "-p",
        "no:cacheprovider",
        "-k",
        "spoc or tiny or CompactLoss or count",
    ]
    unit = [f"tests/unit/{file}.py" for file in ("model/test_aggregators", "training/test_criterion", "test_layout")]
    output = extended(*command, *unit, "tests/networks/test_backbones.py")
    for name in ("spoc", "tiny", "CompactLoss", "count"):
        assert len(re.findall(rf"\[{name}[\]-].*PASSED", output)) >= 2, name


def test_the_new_command_runs(extended):
    assert "count the images below a folder" in extended("python", "-m", "vpr.commands.main", "--help")
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".jpg", ".jpeg", ".webp")]
    assert extended("python", "-m", "vpr.commands.main", "count", "docs").split()[-1] == str(len(pictures))


def test_all_of_them_train_and_are_evaluated(extended):
    choices = ["dataset=squares", "agg=spoc", "backbone=tiny", "loss=CompactLoss", "miner=none", "eval_sets=[val]"]
    overrides = [part for choice in choices for part in ("-S", choice)]
    output = extended("dvc", "exp", "run", *overrides, "-S", "extract.num_workers=0")
    assert {"download", "train", "evaluate@val", "count"} <= extended.stages_run(output)
    recalls = extended.recalls("val")
    assert recalls["descriptor_dim"] == 64  # two stages of a width of 16
    # Chance finds one query of 16; colours are told apart even by random weights.
    assert recalls["recall_at_1"] > 0.3
    count = json.loads((extended.folder / "metrics/count.json").read_text(encoding="utf-8"))
    assert count == {"num_training_images": 64}


def test_the_report_shows_the_new_section(extended):
    page = (extended.folder / "data/report.html").read_text(encoding="utf-8")
    low, middle, high = json.loads(re.search(r'"distance_quartiles": ?(\[[^\]]*\])', page)[1])
    assert 0 <= low <= middle <= high <= 2
    assert 'id: "distances"' in page
