"""Guards of the layout: dvc.yaml declares what a stage reads, and imports follow the table of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# Tracking does not change the result of a training, so it must not retrain a model.
NO_DEPENDENCY = {"train": {"vpr.experiments.live"}}
FOLDERS = {path.name for path in (SRC / "vpr").glob("[a-z]*/")}


def table_of_imports() -> dict[str, set[str]]:
    """The folders that each folder may import from, in addition to itself, from the table of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \| .* \| (.*) \|$", text, re.MULTILINE)
    return {folder: set(re.findall(r"`(\w+)`", imported)) for folder, imported in rows}


def module_file(module: str) -> Path:
    path = SRC / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(module: str) -> set[str]:
    """Modules of ours that a module imports, anywhere in it, with the packages they are in."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module_file(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "vpr":
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names if module_file(f"{node.module}.{a.name}").is_file()}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "vpr"}
    found |= {m.rpartition(".")[0] for m in found if "." in m} - {"vpr"}
    # A table of components imports all files of its folder.
    for package in {m.removesuffix(".base") for m in found}:
        if module_file(package).name != "__init__.py" or not (module_file(package).parent / "base.py").is_file():
            continue
        found |= {f"{package}.{path.stem}" for path in module_file(package).parent.glob("[a-z]*.py")}
    return found - {"vpr"}


def closure(module: str, left_out: set[str]) -> set[str]:
    todo, done = {module}, set()
    while todo:
        current = todo.pop()
        if current not in done and current not in left_out:
            done.add(current)
            todo |= imports(current)
    return done


def stage_module(name: str) -> str:
    return re.search(r"python -m (vpr\.stages\.\w+)", PIPELINE[name]["cmd"]).group(1)


def declared_code(name: str) -> list[Path]:
    return [ROOT / dep for dep in PIPELINE[name]["deps"] if dep.startswith("src/")]


def folder_of(module: str) -> str:
    return module.split(".")[1]


def test_every_stage_file_is_a_stage():
    names = {p.stem for p in (SRC / "vpr" / "stages").glob("*.py")} - {"__init__"}
    assert names == set(PIPELINE)
    assert len(names) >= 11


@pytest.mark.parametrize("name", PIPELINE)
def test_what_a_stage_imports_lies_in_what_it_declares(name):
    needed = {module_file(m) for m in closure(stage_module(name), NO_DEPENDENCY.get(name, set()))}
    needed = {p for p in needed if p.read_text(encoding="utf-8").count("\n") > 1}  # bare packages hold no code
    assert len(needed) > 3, "the guard found nothing to guard"
    declared = declared_code(name)
    assert all(path.exists() for path in declared)
    missing = [p for p in needed if not any(p == d or d in p.parents for d in declared)]
    needless = [d for d in declared if not any(p == d or d in p.parents for p in needed)]
    assert (missing, needless) == ([], []), name


def test_a_stage_depends_on_folders():
    for name in PIPELINE:
        files = [path.name for path in declared_code(name) if path.is_file()]
        assert set(files) <= {f"{name}.py", "params.py"}, name


def keys_read(module: object, tree: ast.AST) -> set[str]:
    """The keys of params.yaml that a stage reads: by methods of ``Params``, and by functions that ``reads`` marks."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("dataset", "eval_sets"):
            found.add(node.attr)
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            found |= set(getattr(getattr(module, node.func.id, None), "reads", ()))
        elif isinstance(node.func, ast.Attribute) and node.args:
            argument = node.args[0]
            if node.func.attr == "section" and hasattr(module, getattr(argument, "id", "")):
                found.add(getattr(module, argument.id).key)
            elif node.func.attr in ("value", "raw", "choice"):
                found.add(argument.value if isinstance(argument, ast.Constant) else getattr(module, argument.id))
    return found


@pytest.mark.parametrize("name", PIPELINE)
def test_params_are_the_keys_that_a_stage_reads(name):
    module = importlib.import_module(stage_module(name))
    tree = ast.parse(module_file(module.__name__).read_text(encoding="utf-8"))
    needed = keys_read(module, tree)
    declared = {p for p in PIPELINE[name].get("params", []) if isinstance(p, str)}

    def covers(one: str, other: str) -> bool:
        return one == other or other.startswith(f"{one}.") or one.startswith(f"{other}.")

    missing = {key for key in needed if not any(covers(d, key) for d in declared)}
    needless = {d for d in declared if not any(covers(key, d) for key in needed)} - {"dataset"}
    assert needed or not declared
    assert (missing, needless) == (set(), set()), name


def test_only_stages_and_commands_read_params_yaml():
    """A stage reads what it declares; everything else takes values, or an object of ``Params``."""
    readers = {
        path.relative_to(SRC / "vpr").as_posix()
        for path in (SRC / "vpr").rglob("*.py")
        if "Params.read(" in path.read_text(encoding="utf-8")
    }
    others = {name for name in readers if not name.startswith(("stages/", "commands/"))}
    assert others == {"experiments/print_recalls.py", "experiments/ui.py"}, "these are run as commands"


@pytest.mark.parametrize("name", PIPELINE)
def test_every_file_of_a_command_is_declared(name):
    stage = PIPELINE[name]
    declared = {
        next(iter(entry)) if isinstance(entry, dict) else entry
        for key in ("deps", "outs", "metrics", "plots", "params")
        for entry in stage.get(key, [])
    }
    used = set(re.findall(r"(?:data|metrics|mlruns)(?:/[^\s]+|(?=\s|$))", stage["cmd"]))
    assert used
    # A folder stands for the files declared in it, and the other way round.
    loose = {u for u in used if not any(d == u or d.startswith(f"{u}/") or u.startswith(f"{d}/") for d in declared)}
    assert loose == set()


def test_imports_follow_the_table_of_contributing():
    allowed = table_of_imports()
    assert set(allowed) == FOLDERS
    counted = 0
    for path in (SRC / "vpr").rglob("*.py"):
        module = ".".join(path.relative_to(SRC).with_suffix("").parts)
        if module == "vpr.__init__":
            continue
        own = folder_of(module)
        for imported in imports(module.removesuffix(".__init__")):
            counted += 1
            assert folder_of(imported) in allowed[own] | {own}, f"{module} imports {imported}"
    assert counted > 300


def test_no_folder_may_import_everything():
    for folder, imported in table_of_imports().items():
        assert imported < FOLDERS - {folder}, folder


def test_only_the_experiments_import_mlflow():
    importers = {
        p.relative_to(SRC / "vpr").parts[0]
        for p in SRC.rglob("*.py")
        if re.search(r"^\s*(import|from) mlflow", p.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert importers == {"experiments"}


def test_components_do_not_import_one_another():
    packages = {"backbones": "model", "aggregators": "model", "losses": "training", "miners": "training"}
    for package, folder in packages.items():
        for path in (SRC / "vpr" / folder / package).glob("*.py"):
            others = packages.keys() - {package}
            text = path.read_text(encoding="utf-8")
            assert not any(f"{packages[other]}.{other}" in text for other in others), path
