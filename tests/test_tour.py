"""The notebook, run in Jupyter as a reader does, and the examples of the README."""

import json
import re
import shutil

import pytest
from conftest import ROOT, run_script

import exp_curve_gan

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_notebook_runs_and_shows_pictures():
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "tour.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace(".train(data", ".train(data, epochs=2").replace(
            ".train(heart", ".train(heart, epochs=2"
        )
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 3
    assert kinds.count("image/gif") == 1
    printed = "".join(output.get("text", "") for output in outputs)
    assert "epoch" in printed or "application/vnd.jupyter.widget-view+json" in kinds  # the bar


def test_the_notebook_is_kept_without_outputs():
    notebook = json.loads((ROOT / "tour.ipynb").read_text())
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_the_readme_example_of_another_curve(tmp_path):
    """One function changed in a copied script, as the README says."""
    (example,) = (text for text in EXAMPLES if text.startswith("def real_samples"))
    shutil.copy(ROOT / "common.py", tmp_path)
    script = (ROOT / "sine_gan.py").read_text()
    before, after = re.split(r"def real_samples.*?\n\n\n", script, flags=re.DOTALL)
    (tmp_path / "eight_gan.py").write_text(f"{before}{example}\n\n{after}")
    result = run_script("eight_gan.py", "--epochs", 12, "--device", "cpu", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "outputs" / "sine" / "metrics.json").read_text())
    assert metrics["precision"] > 0.5
    assert metrics["recall"] > 0.9


def test_the_other_readme_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exp_curve_gan.main(["--epochs", "1", "--quiet", "--device", "cpu"]) == 0
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(example, names)
    assert names["points"].shape == (2048, 2)
    assert names["result"].ratio < 1.25
