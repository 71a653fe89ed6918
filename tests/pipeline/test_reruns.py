"""The stages that rerun after an edit, by DVC itself: edit a file of each folder, and read `dvc status`."""

from __future__ import annotations

import json

import yaml
from tools.docs.reruns import FOLDERS, stages_of_folder

from scratch_project import ROOT

HEAVY = {"train", "export", "extract", "index", "rerank"}
STATUS = """
import json, sys
from pathlib import Path
from dvc.repo import Repo

found = {}
for folder in sys.argv[1:]:
    files = [next(Path("src/vpr", folder).glob("[a-z]*.py"), Path("src/vpr", folder, "__init__.py"))]
    files += Path("src/vpr", folder).glob("params.py")  # some stages depend on this file alone
    before = [file.read_bytes() for file in files]
    for file, content in zip(files, before):
        file.write_bytes(content + b"# edited\\n")
    with Repo() as repo:
        found[folder] = sorted({name.partition("@")[0] for name in repo.status()})
    for file, content in zip(files, before):
        file.write_bytes(content)
print("found " + json.dumps(found))
"""


def test_an_edit_reruns_the_stages_of_the_table_and_no_other(project):
    _, _, printed = project("python", "-c", STATUS, *FOLDERS).splitlines()[-1].partition("found ")
    found = json.loads(printed)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert {folder: set(names) for folder, names in found.items()} == {
        folder: set(stages_of_folder(stages, folder)) for folder in FOLDERS
    }
    for folder in ("serving", "commands", "report", "experiments", "published", "api"):
        assert not HEAVY & set(found[folder]), folder
    for folder in ("serving", "commands", "published", "api"):
        assert not found[folder], folder
