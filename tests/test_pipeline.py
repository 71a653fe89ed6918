"""Guards: dvc.yaml declares all the code and parameters that a stage reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# Tracking changes nothing that a stage leaves, and must not retrain a model.
NO_DEPENDENCY = {"vpr.tracking", "vpr.mlflow_model"}
READERS = {
    "load_dataset": {"dataset", "datasets.${dataset}"},
    "load_dataset_name": {"dataset"},
    "load_sources": {"sources"},
    "load_used_sources": {"dataset", "datasets.${dataset}", "sources"},
    "load_train": {"dataset", "train.${dataset}"},
    "load_eval_sets": {"eval_sets"},
    "load_validation_sets": {"dataset", "train.${dataset}"},
    "load_evaluate": {"evaluate"},
    "load_export": {"export"},
    "load_index_set": {"index", "eval_sets", "dataset", "train.${dataset}"},
    "load_extract": {"extract"},
    "check_all": {
        "dataset",
        "datasets.${dataset}",
        "sources",
        "eval_sets",
        "verify",
        "train.${dataset}",
        "export",
        "index",
        "extract",
        "evaluate",
    },
}
CHOICES = {"backbone": "backbones", "agg": "aggregators", "loss": "losses", "miner": "miners"}


def module_file(module: str) -> Path:
    path = SRC / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(module: str) -> set[str]:
    """Modules of ours that a module imports, anywhere in it, with the packages they lie in."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module_file(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "vpr":
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names if module_file(f"{node.module}.{a.name}").is_file()}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "vpr"}
    return found | {m.rpartition(".")[0] for m in found if "." in m}


def closure(module: str) -> set[str]:
    todo, done = {module}, set()
    while todo:
        current = todo.pop()
        if current in done or current in NO_DEPENDENCY:
            continue
        done.add(current)
        todo |= imports(current)
    return {m for m in done if module_file(m).read_text(encoding="utf-8").count("\n") > 1}  # not the bare packages


def stage_module(stage: dict) -> str:
    return re.search(r"python -m (vpr\.stages\.\w+)", stage["cmd"]).group(1)


def declared_files(stage: dict) -> set[Path]:
    files: set[Path] = set()
    for dep in stage["deps"]:
        if dep.startswith("src/"):
            path = ROOT / dep
            assert path.exists(), f"{dep} is declared, but not there"
            files |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return files


def test_every_stage_file_is_a_stage():
    names = {p.stem for p in (SRC / "vpr" / "stages").glob("*.py")} - {"__init__"}
    assert names == set(PIPELINE)
    assert len(names) == 11


@pytest.mark.parametrize("name", PIPELINE)
def test_deps_are_the_modules_that_a_stage_imports(name):
    stage = PIPELINE[name]
    needed = {module_file(m) for m in closure(stage_module(stage))}
    assert len(needed) > 3, "the guard found nothing to guard"
    declared = {p for p in declared_files(stage) if p.read_text(encoding="utf-8").count("\n") > 1}
    relative = [sorted(str(p.relative_to(ROOT)) for p in files) for files in (needed - declared, declared - needed)]
    assert relative == [[], []], f"{name}: missing in deps {relative[0]}, needless {relative[1]}"


def test_the_import_guard_sees_a_stage_s_own_imports():
    assert {"vpr.params", "vpr.retrieval", "vpr.evaluation"} <= closure("vpr.stages.evaluate")
    assert "vpr.training" not in closure("vpr.stages.evaluate")


def sections_read(module: str) -> set[str]:
    """Keys of params.yaml that a stage's own module, or the configuration it loads, asks for."""
    keys: set[str] = set()
    modules = {module} | ({"vpr.configuration"} & imports(module))
    for one in modules:
        for node in ast.walk(ast.parse(module_file(one).read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            name = node.func.id
            keys |= READERS.get(name, set())
            if name == "load_section":
                keys.add(node.args[0].value)
            if name == "load_choice":
                for key, table in CHOICES.items():
                    keys |= {key, f"{table}.${{{key}}}"}
    return keys


@pytest.mark.parametrize("name", PIPELINE)
def test_params_are_the_sections_that_a_stage_reads(name):
    needed = sections_read(stage_module(PIPELINE[name]))
    declared = {str(p) for p in PIPELINE[name].get("params", [])}
    missing = {k for k in needed if k not in declared and not any(d.startswith(f"{k}.") for d in declared)}
    needless = {d for d in declared if d not in needed and d.rpartition(".")[0] not in needed}
    assert needed or name == "sets"
    assert (missing, needless) == (set(), set()), name


@pytest.mark.parametrize("name", PIPELINE)
def test_every_file_of_a_command_is_declared(name):
    stage = PIPELINE[name]
    declared = {
        next(iter(entry)) if isinstance(entry, dict) else entry
        for key in ("deps", "outs", "metrics", "plots")
        for entry in stage.get(key, [])
    }
    used = set(re.findall(r"(?:data|metrics|mlruns)(?:/[^\s]+|(?=\s|$))", stage["cmd"]))
    assert used
    # A folder stands for the files declared in it, and the other way round.
    loose = {u for u in used if not any(d == u or d.startswith(f"{u}/") or u.startswith(f"{d}/") for d in declared)}
    assert loose == set()


def test_only_tracking_imports_mlflow():
    importers = {
        p.relative_to(SRC).as_posix()
        for p in SRC.rglob("*.py")
        if re.search(r"^\s*(import|from) mlflow", p.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert importers == {"vpr/tracking.py", "vpr/mlflow_model.py"}


def test_nothing_imports_the_stages():
    for path in set(SRC.rglob("*.py")) - set((SRC / "vpr" / "stages").glob("*.py")):
        assert not re.search(r"^\s*(import|from) vpr\.stages", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_components_do_not_import_one_another():
    packages = {"backbones", "aggregators", "losses", "miners"}
    for package in packages:
        for path in (SRC / "vpr" / package).glob("*.py"):
            others = packages - {package}
            text = path.read_text(encoding="utf-8")
            assert not any(f"vpr.{other}" in text for other in others), path
