"""The notebooks, run on the smoke run's tiny city."""

from __future__ import annotations

import base64
import io
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

pytestmark = pytest.mark.filterwarnings("ignore")  # Jupyter's own


def run_notebook(project, name: str, monkeypatch, **cells: str) -> list:
    """Execute a notebook in the project, with some cells replaced; its code cells."""
    notebook = nbformat.read(project.folder / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for start, source in cells.items():
        (cell,) = [cell for cell in code if cell.source.startswith(start)]
        cell.source = source
    for key, value in project.env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert all(not cell.outputs for cell in code), "notebooks are kept without outputs"
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(project.folder / "notebooks")}})
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
    return code


def text_of(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def test_one_trains_and_tests(project, first_run, warm, tmp_path_factory, monkeypatch):
    copy = warm(project.copy(tmp_path_factory.mktemp("notebook") / "project"))
    changes = f"""changes = ["agg=gem"]\nos.environ["PATH"] = {copy.env["PATH"]!r}"""
    code = run_notebook(copy, "train_and_test", monkeypatch, changes=changes)
    assert any("Running stage 'train'" in text_of(cell) for cell in code)
    table = next(text_of(cell) for cell in code if "R@1" in text_of(cell) and "median error" in text_of(cell))
    assert f"{100 * copy.recalls('val')['recall_at_1']:.1f}" in table
    assert copy.recalls("val")["descriptor_dim"] == 128


def test_the_other_shows_predictions(project, first_run, monkeypatch):
    code = run_notebook(project, "predictions", monkeypatch)
    assert f"recall@1 {100 * project.recalls('val')['recall_at_1']:.1f}" in text_of(code[2])
    (picture,) = [o["data"]["image/png"] for cell in code for o in cell.outputs if "image/png" in o.get("data", {})]
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    assert image.width > 600
    assert image.height > 200
