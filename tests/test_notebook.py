"""The notebook, the README's examples and Ctrl-C, in Jupyter as a reader has them.

All tests with a kernel are here, in one process: two that start at once may get the same ports.
"""

import json
import re
from pathlib import Path

import pytest
from conftest import ROOT


def run(notebook, folder: Path):
    """A notebook, or one of these cells, after it has run in a folder."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    if isinstance(notebook, list):
        notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, notebook)))
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    return notebook


def kinds_of_output(cells: list) -> list[str]:
    """What the cells show: the kinds of all outputs."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [kind for output in outputs for kind in output.get("data", {})]


def printed(cell, name: str) -> str:
    """What a cell prints on "stdout" or "stderr"."""
    return "".join(output.text for output in cell.outputs if output.get("name") == name)


def test_the_notebook_runs_and_shows_pictures():
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "tour.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"\.train\((\w+)\)", r".train(\1, epochs=2)", cell.source)
    kinds = kinds_of_output(run(notebook, ROOT).cells)
    assert kinds.count("image/png") == 3
    assert kinds.count("image/gif") == 1


def test_the_notebook_shows_its_pictures_where_it_is_only_looked_at():
    kinds = kinds_of_output(json.loads((ROOT / "tour.ipynb").read_text())["cells"])
    assert kinds.count("image/png") == 3
    assert kinds.count("image/gif") == 1


def test_the_examples_of_the_readme_run_without_a_warning(tmp_path, monkeypatch):
    """After `main()`, whose arguments are its defaults here: Jupyter has others of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    short = "import exp_curve_gan, sine_gan\n"
    short += "exp_curve_gan.BATCHES_PER_EPOCH = sine_gan.BATCHES_PER_EPOCH = 3"
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    _, main, *cells = run([short, "exp_curve_gan.main()", *examples], tmp_path).cells
    assert (tmp_path / "outputs" / "exp_curve" / "generator.pt2").exists()
    assert "Trained on 2,048 samples" in printed(main, "stdout")
    assert "Warning" not in "".join(printed(cell, "stderr") for cell in [main, *cells])
    assert kinds_of_output(cells) == ["text/plain", "image/png"]


def test_arguments_of_main_and_of_a_script_are_taken_in_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    call = "import sine_gan\nsine_gan.main(['--generate', '3'])"
    for cell in run([call, f"%run {ROOT / 'sine_gan.py'} --generate 3"], tmp_path).cells:
        assert "cannot read outputs/sine/generator.pt" in printed(cell, "stderr")


def test_a_training_that_is_stopped_returns_the_best_so_far():
    """Jupyter's stop button sends the same signal as Ctrl-C."""
    cells = [
        "import signal, common, sine_gan",
        "def evaluate(training, *given, measure=common.Training.evaluate):\n"
        "    measure(training, *given)\n"
        "    if len(training.history) == 3:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "common.Training.evaluate = evaluate",
        "result = sine_gan.train(sine_gan.real_samples(500), epochs=1000, progress=False)",
        "print(result.interrupted, len(result.history), result.verdict)",
    ]
    assert printed(run(cells, ROOT).cells[-1], "stdout").startswith("True 3 ")
