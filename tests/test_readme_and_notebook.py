"""The README's examples, and Jupyter: the notebook, `main`, `%run` and the stop button.

All cells run in one kernel: two kernels that start at once may get the same ports.
"""

import re

import pytest
from conftest import ROOT, capped

import common
import exp_curve_gan


def shortened(source):
    """Code with short trainings."""
    return re.sub(r"\.train\((.+)\)", r".train(\1, epochs=2)", source)


def test_python_examples_run_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    capped(monkeypatch, exp_curve_gan)
    monkeypatch.setattr(common, "save_picture", lambda *_: None)
    assert exp_curve_gan.main(["--epochs", "1", "--quiet", "--device", "cpu"]) == 0
    for example in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        names = {}
        exec(shortened(example), names)
        assert names["points"].shape in [(1000, 2), (16384, 2)]


def outputs(cells):
    """The kinds of what cells show, in their order."""
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    return [kind for output in shown for kind in output.get("data", {}) if "image" in kind]


def printed(cell, name):
    """What a cell printed on "stdout" or "stderr"."""
    return "".join(output.text for output in cell.outputs if output.get("name") == name)


MAIN = """
common.save = common.save_picture = lambda *_, **__: None  # they take seconds
sine_gan.BATCHES_PER_EPOCH = sine_gan.COOLDOWN = 1
sine_gan.main()  # not with the arguments of Jupyter
"""
STOPPED = """
import signal
def evaluate(training, *arguments, measure=common.Training.evaluate):
    measure(training, *arguments)
    if len(training.history) == 3:
        signal.raise_signal(signal.SIGINT)  # like Jupyter's stop button
common.Training.evaluate = evaluate
result = sine_gan.train(data, epochs=1000, patience=1000, progress=False)
print(result.interrupted, len(result.history))
"""


def test_the_notebook_and_the_scripts_run_in_jupyter(tmp_path, monkeypatch):
    nbclient, nbformat = (pytest.importorskip(name) for name in ("nbclient", "nbformat"))
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "tour.ipynb", as_version=4)
    pictures = ["image/png", "image/gif", "image/png", "image/png"]
    assert outputs(notebook.cells) == pictures  # it is saved with them
    for cell in notebook.cells:
        cell.source = shortened(cell.source)
    tour = len(notebook.cells)
    for source in (MAIN, f"%run {ROOT / 'sine_gan.py'} --generate 3", STOPPED):
        notebook.cells.append(nbformat.v4.new_code_cell(source))
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, startup_timeout=120, resources=place).execute()
    assert outputs(notebook.cells[:tour]) == pictures
    main, run, stopped = notebook.cells[tour:]
    assert "Trained on 2,048 samples" in printed(main, "stdout")
    assert "cannot read outputs/sine/generator.pt" in printed(run, "stderr")
    assert printed(stopped, "stdout") == "True 3\n"
    assert not any("Warning" in printed(cell, "stderr") for cell in notebook.cells[tour:])
