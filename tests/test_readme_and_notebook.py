"""The README's examples, and Jupyter: the notebook, `main`, `%run` and the stop button.

All cells run in one kernel: two kernels that start at once may get the same ports.
"""

import json
import re
import shlex

import pytest
import torch
from conftest import ROOT, capped

import exp_curve_gan
import sine_gan
import table_gan

README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(autouse=True)
def short_and_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for script in (exp_curve_gan, sine_gan, table_gan):
        capped(monkeypatch, script)


def test_python_examples_run_alone():
    assert exp_curve_gan.main(["--epochs", "1", "--quiet", "--device", "cpu"]) == 0
    plain, from_code, _ = results = [{}, {}, {}]
    for example, names in zip(EXAMPLES, results, strict=True):
        exec(example, names)
    assert plain["points"].shape == (1000, 2)
    assert isinstance(from_code["result"].verdict, str)


def test_the_example_of_another_curve_is_learned(monkeypatch):
    (example,) = (text for text in EXAMPLES if text.startswith("def real_samples"))
    names = {"torch": torch}
    exec(example, names)
    monkeypatch.setattr(sine_gan, "real_samples", names["real_samples"])
    assert sine_gan.main(["--epochs", "1", "--quiet", "--device", "cpu", "--out", "eight"]) == 0


def test_the_example_of_a_table_runs(tmp_path, capsys):
    (tmp_path / "table.csv").write_text("size,town\n" + "1.5,Ulm\n2.5,Bonn\n" * 50)
    train, generate = re.findall(r"^    python table_gan.py (.*)$", README, re.MULTILINE)[:2]
    assert table_gan.main([*shlex.split(train), "--quiet", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert table_gan.main(shlex.split(generate)) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "size,town"
    assert len(rows) == int(generate.split()[1])
    assert all(re.fullmatch(r"[12]\.[0-9],(Ulm|Bonn)", row) for row in rows)


def outputs(cells):
    """The kinds of what cells show, in their order."""
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    return [kind for output in shown for kind in output.get("data", {}) if "image" in kind]


def printed(cell, name):
    """What a cell printed on "stdout" or "stderr"."""
    return "".join(output.text for output in cell.outputs if output.get("name") == name)


def test_the_notebook_is_saved_with_its_pictures():
    cells = json.loads((ROOT / "tour.ipynb").read_text())["cells"]
    assert outputs(cells) == ["image/png", "image/gif", "image/png", "image/png"]


STOPPED = """
import signal, common
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
    for cell in notebook.cells:
        cell.source = re.sub(r"\.train\((\w+)\)", r".train(\1, epochs=2)", cell.source)
    tour = len(notebook.cells)
    for source in (
        "sine_gan.BATCHES_PER_EPOCH = 1\nsine_gan.main()",  # not Jupyter's own arguments
        "sine_gan.main(['--generate', '3', '--out', 'absent'])",
        f"%run {ROOT / 'sine_gan.py'} --generate 3",
        STOPPED,
    ):
        notebook.cells.append(nbformat.v4.new_code_cell(source))
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, startup_timeout=120, resources=place).execute()
    assert outputs(notebook.cells[:tour]) == ["image/png", "image/gif", "image/png", "image/png"]
    main, generate, run, stopped = notebook.cells[tour:]
    assert "Trained on 2,048 samples" in printed(main, "stdout")
    assert "cannot read absent/generator.pt" in printed(generate, "stderr")
    assert printed(run, "stdout").startswith("x,y\n")
    assert printed(stopped, "stdout") == "True 3\n"
    assert not any("Warning" in printed(cell, "stderr") for cell in notebook.cells[tour:])
