"""The examples of the README."""

import importlib
import json
import re
import shlex
from typing import Any

from conftest import ROOT

import exp_curve_gan
import sine_gan
import table_gan

README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_readme_example_of_another_curve(tmp_path, monkeypatch):
    """One function changed in a copied script, as the README says."""
    (example,) = (text for text in EXAMPLES if text.startswith("def real_samples"))
    script = (ROOT / "sine_gan.py").read_text()
    before, after = re.split(r"def real_samples.*?\n\n\n", script, flags=re.DOTALL)
    (tmp_path / "eight_gan.py").write_text(f"{before}{example}\n\n{after}")
    monkeypatch.syspath_prepend(tmp_path)
    eight_gan = importlib.import_module("eight_gan")
    arguments = ["--epochs", "12", "--quiet", "--device", "cpu", "--out", str(tmp_path)]
    assert eight_gan.main(arguments) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["precision"] > 0.5
    assert metrics["coverage"] > 0.9


def run_alone(example: str) -> dict[str, Any]:
    """What an example leaves, run with nothing before it."""
    names: dict[str, Any] = {}
    exec(example, names)
    return names


def test_the_other_readme_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sine_gan, "BATCHES_PER_EPOCH", 20)
    assert exp_curve_gan.main(["--epochs", "1", "--quiet", "--device", "cpu"]) == 0
    plain, from_code, _ = map(run_alone, EXAMPLES)
    assert plain["points"].shape == (1000, 2)
    assert from_code["points"].shape == (2048, 2)
    assert from_code["result"].ratio < 1.25


def test_the_readme_example_of_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table_gan, "BATCHES_PER_EPOCH", 3)
    (tmp_path / "table.csv").write_text("size,town\n" + "1.5,Ulm\n2.5,Bonn\n" * 50)
    train, generate = re.findall(r"^    python table_gan.py (.*)$", README, re.MULTILINE)
    assert table_gan.main([*shlex.split(train), "--quiet", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert table_gan.main(shlex.split(generate)) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "size,town"
    assert len(rows) == 500
    assert all(re.fullmatch(r"[12]\.[0-9],(Ulm|Bonn)", row) for row in rows)
