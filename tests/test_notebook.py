"""The notebook, run in Jupyter as a reader does."""

import json
import re

import pytest
from conftest import ROOT


def kinds_of_output(cells: list) -> list[str]:
    """What the cells show: the kinds of all outputs."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [kind for output in outputs for kind in output.get("data", {})]


def test_the_notebook_runs_and_shows_pictures():
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "tour.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"\.train\((\w+)\)", r".train(\1, epochs=2)", cell.source)
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(ROOT)}}).execute()
    kinds = kinds_of_output(notebook.cells)
    assert kinds.count("image/png") == 3
    assert kinds.count("image/gif") == 1


def test_the_notebook_shows_its_pictures_where_it_is_only_looked_at():
    kinds = kinds_of_output(json.loads((ROOT / "tour.ipynb").read_text())["cells"])
    assert kinds.count("image/png") == 3
    assert kinds.count("image/gif") == 1
