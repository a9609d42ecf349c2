"""Jupyter: the notebook, `main` and `%run`, in one kernel, as two could get the same ports."""

import pytest
from conftest import ROOT


def outputs(cells):
    """The kinds of what cells show, in their order."""
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    return [kind for output in shown for kind in output.get("data", {}) if "image" in kind]


def printed(cell, name):
    """What a cell printed on "stdout" or "stderr"."""
    return "".join(output.text for output in cell.outputs if output.get("name") == name)


SHORT = """
import sine_gan
sine_gan.train.__wrapped__.__kwdefaults__["epochs"] = 2
"""
MAIN = """
common.save = common.save_picture = lambda *_, **__: None  # they take seconds
sine_gan.main()  # not with the arguments of Jupyter
"""


def test_the_notebook_and_the_scripts_run_in_jupyter(tmp_path, monkeypatch):
    nbclient, nbformat = (pytest.importorskip(name) for name in ("nbclient", "nbformat"))
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "tour.ipynb", as_version=4)
    pictures = ["image/png", "image/gif", "image/png", "image/png"]
    assert outputs(notebook.cells) == pictures  # it is saved with them
    run = f"%run {ROOT / 'sine_gan.py'} --generate 3"
    short, main, run = map(nbformat.v4.new_code_cell, (SHORT, MAIN, run))
    notebook.cells = [short, *(tour := notebook.cells), main, run]
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, startup_timeout=120, resources=place).execute()
    assert outputs(tour) == pictures
    assert "Trained on 2,048 samples" in printed(main, "stdout")
    assert "cannot read outputs/sine/generator.pt" in printed(run, "stderr")
    assert not any("Warning" in printed(cell, "stderr") for cell in (main, run))
