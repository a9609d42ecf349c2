"""The benchmarks still fit the scripts that they measure, and write what they find."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import ablation
import measure
import pytest
import quality
import speed
import table_quality
import textbook
import torch
import verdict
from helpers import capped

import exp_curve_gan
import multiples_of_five_gan
import sine_gan
import table_gan


@pytest.fixture(autouse=True)
def trial(monkeypatch, tmp_path):
    """Little data, in one process; a function that runs a benchmark, with a copy of its pages."""
    shutil.copytree(measure.RESULTS, tmp_path / "results")
    shutil.copy(measure.README, tmp_path)
    settings = {"SAMPLES": 200, "GENERATED": 1000}
    settings |= {"ProcessPoolExecutor": lambda **_: ThreadPoolExecutor(1)}
    settings |= {"README": tmp_path / "README.md", "RESULTS": tmp_path / "results"}
    for name, value in settings.items():
        monkeypatch.setattr(measure, name, value)
    for script in (exp_curve_gan, sine_gan, multiples_of_five_gan, table_gan):
        capped(monkeypatch, script)

    def run(benchmark, *options):
        monkeypatch.setattr(sys, "argv", [f"{benchmark.__name__}.py", "--seeds", "1", *options])
        benchmark.main()

    return run


@pytest.mark.parametrize("name", ["exponential", "2 values"])
def test_each_removed_part_changes_the_training(name):
    parts = ablation.POINTS if name in measure.SHAPES else ablation.INTEGERS
    figures = {part: ablation.learn_without((part, name), 0, epochs=2) for part in parts}
    ratios = {part: figures[part]["ratio"] for part in parts}
    assert [part for part in parts if ratios[part] == ratios["nothing"]] == ["nothing"]


def test_figures_are_those_of_the_changed_generator(monkeypatch):
    monkeypatch.setattr(measure, "evaluate", lambda *_: {"erf": torch.erf})
    _, figures = measure.learn("sine", 0, changes={"torch.erf": torch.tanh}, epochs=1)
    assert figures["erf"] is torch.tanh


def test_each_failure_is_measured(tmp_path):
    rows = ablation.draw_failures(tmp_path / "failures.png", epochs=1).splitlines()[2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(ablation.FAILURES)


def test_a_training_set_is_as_good_as_itself():
    points, rows = map(measure.training_data, ("sine", "2 values"))
    figures = measure.evaluate("sine", points, points)
    assert (figures["excess"], figures["inside"]) == (0, 1)
    assert measure.evaluate("2 values", rows, rows)["valid"] == 1
    assert measure.evaluate("2 values", rows, rows.roll(1, dims=1))["valid"] == 0


def test_speed_and_its_command_are_written(trial):
    trial(speed, "--limit", "0", "--epochs", "1")
    block = (measure.RESULTS / "speed.md").read_text()
    assert "| sine, textbook | not in 0 s | not in 0 s |" in block
    assert "`python benchmarks/speed.py --seeds 1 --limit 0 --epochs 1`" in block


def test_verdicts_on_faults_are_counted(trial, monkeypatch):
    monkeypatch.setattr(verdict, "ROWS", (300,))
    monkeypatch.setattr(verdict, "COLUMNS", (2,))
    monkeypatch.setattr(verdict, "POINTS", {"clusters": verdict.POINTS["clusters"]})
    trial(verdict)
    page = (measure.RESULTS / "verdict.md").read_text()
    assert "| bad | a cluster of 10 % lost | 0% | 0.0% |" in page


def test_copies_of_rows_are_found(trial, monkeypatch):
    ours = table_quality.by_table_gan
    methods = {"table_gan.py": ours, "CTGAN": lambda rows, *_, **__: rows}
    monkeypatch.setattr(table_quality, "METHODS", methods)
    monkeypatch.setattr(table_quality, "TABLES", {"iris": table_quality.TABLES["iris"]})
    trial(table_quality, "--epochs", "1")
    (row,) = (row for row in measure.README.read_text().splitlines() if "| CTGAN |" in row)
    assert row.split(" | ")[2] == "1 / 1"


def test_mean_and_worst_stand_side_by_side():
    runs = {"sine": [{"excess": 0.8}, {"excess": 1.0}], "circle": []}
    table = quality.short_table(runs, {"sine": [{"excess": 0.5, "present": 0.2}]})
    assert table.splitlines()[2:] == ["| sine | excess | 0.9 | 1 | 0.5 | 0.5 |"]


def test_the_textbook_stops_by_itself_or_at_its_limit():
    assert textbook.learn_integers(measure.training_data("2 values"), seed=0).stopped
    assert not textbook.learn_digits(torch.rand(128, 784), seed=0, limit=0).stopped
