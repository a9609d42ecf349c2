"""The benchmarks still fit the scripts that they measure, and write what they find."""

import shutil
import sys

import ablation
import exp_curve_gan
import measure
import multiples_of_five_gan
import pytest
import quality
import sine_gan
import speed
import table_quality
import textbook
import torch
import verdict
from conftest import capped
from matplotlib.figure import Figure


@pytest.fixture(autouse=True)
def trial(monkeypatch, tmp_path):
    """Short trainings on little data, in one process, and results in a copy of the pages."""
    shutil.copytree(measure.RESULTS, tmp_path / "results")
    shutil.copy(measure.README, tmp_path)
    small = {"SAMPLES": 200, "GENERATED": 1000, "in_parallel": map}
    places = {"README": tmp_path / "README.md", "RESULTS": tmp_path / "results"}
    for name, value in (small | places).items():
        monkeypatch.setattr(measure, name, value)
    for script in (sine_gan, exp_curve_gan, multiples_of_five_gan):
        capped(monkeypatch, script)
    measure.truth.cache_clear()


@pytest.mark.parametrize(
    ("script", "parts", "name"),
    [
        (sine_gan, ablation.POINTS, "exponential"),
        (multiples_of_five_gan, ablation.INTEGERS, "2 values"),
    ],
)
def test_each_part_that_is_removed_changes_the_training(script, parts, name):
    ends = {}
    for part, changes in parts.items():
        with ablation.replaced(changes):
            training = script.train(measure.training_data(name), epochs=2, progress=False)
        ends[part] = training.history[-1]
    assert [part for part in parts if ends[part] == ends["nothing"]] == ["nothing"]


def test_each_failure_is_measured():
    rows = ablation.draw_failures(Figure(), epochs=1).splitlines()[2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(ablation.FAILURES)


def test_a_training_set_is_as_good_as_itself():
    data = measure.training_data("sine")
    figures = measure.evaluate("sine", data, data)
    assert (figures["excess"], figures["inside"]) == (0, 1)
    assert figures["off-curve"] < 1e-6
    two = measure.training_data("2 values")
    assert measure.evaluate("2 values", two, two)["valid"] == 1
    assert measure.evaluate("2 values", two, two[:, :1].expand(-1, 100))["valid"] == 0


def test_the_worst_is_the_highest_or_the_lowest():
    runs = [{"near": 0.5, "lost": 1.0}, {"near": 0.7, "lost": 3.0}]
    columns = {"near": min, "lost": max, "KL": max}
    assert measure.cells(runs, columns) == ["0.6 / 0.5", "2 / 3", ""]
    assert measure.words(runs, columns) == "near 0.6 / 0.5; lost 2 / 3"


def test_only_the_named_parts_of_a_page_are_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# It\n<!-- a -->\nold\n<!-- end of a -->\n| x | 1 |\n| y | 2 |\n")
    measure.write_blocks(page, a="new\n")
    measure.write_rows(page, [["y", "3"]])
    assert page.read_text() == "# It\n<!-- a -->\nnew\n<!-- end of a -->\n| x | 1 |\n| y | 3 |\n"
    with pytest.raises(ValueError, match="0 places"):
        measure.write_rows(page, [["z", "4"]])


def test_speed_is_written_into_readme(monkeypatch):
    command = ["speed.py", "--seeds", "1", "--limit", "0", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", command)
    speed.main()
    text = measure.README.read_text().partition("<!-- speed -->")[2]
    assert "| exponential, textbook | not in 0 s | not in 0 s |" in text
    assert f"`python benchmarks/{' '.join(command)}`" in text


def test_verdicts_on_faults_are_counted(monkeypatch):
    monkeypatch.setattr(verdict, "ROWS", (300,))
    monkeypatch.setattr(verdict, "COLUMNS", (2,))
    monkeypatch.setattr(sys, "argv", ["verdict.py", "--seeds", "1"])
    verdict.main()
    text = (measure.RESULTS / "verdict.md").read_text()
    assert "| good | the truth | 0% | 0.0% |" in text
    assert "| bad | a cluster of 10 % lost | 0% | 0.0% |" in text


def test_copies_of_rows_are_found(monkeypatch):
    def copy(train, columns, n, seed, epochs):
        return train.repeat(2, 1)[:n]

    monkeypatch.setattr(table_quality, "TABLES", {"iris": table_quality.TABLES["iris"]})
    monkeypatch.setitem(table_quality.METHODS, "CTGAN", copy)
    monkeypatch.setattr(sys, "argv", ["table_quality.py", "--seeds", "1", "--epochs", "1"])
    table_quality.main()
    (row,) = [row for row in measure.README.read_text().splitlines() if "| CTGAN |" in row]
    assert row.split(" | ")[2] == "1 / 1"


def test_readme_shows_what_both_loops_have():
    ours = {"sine": [{"excess": 0.1, "coverage": 1.0}], "circle": [{"excess": 0.2}]}
    table = quality.short_table(ours, {"sine": [{"excess": 2.0}, {"excess": 3.0}]})
    assert table.splitlines()[2:] == ["| sine | excess | 0.1 | 0.1 | 2.5 | 3 |"]


def test_the_textbook_stops_itself_or_at_the_limit():
    data = measure.training_data("20 multiples of five")
    assert textbook.learn_integers(data, seed=0).stopped
    result = textbook.learn_digits(torch.rand(128, 784), seed=0, limit=0)
    assert not result.stopped
    assert result.generator(torch.randn(3, 64)).shape == (3, 784)
