"""The benchmarks still fit the scripts that they measure, and write what they find."""

import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import ablation
import image_quality
import measure
import pytest
import quality
import speed
import table_quality
import textbook
import torch
import verdict
from helpers import shorten

import exp_curve_gan
import multiples_of_five_gan
import sine_gan
import table_gan
import wgan


@pytest.fixture(autouse=True)
def trial(monkeypatch, tmp_path):
    """Little data, in one process; a function that runs a benchmark, with a copy of its pages."""
    shutil.copytree(measure.RESULTS, tmp_path / "results")
    shutil.copy(measure.README, tmp_path)
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(measure, "README", tmp_path / "README.md")
    monkeypatch.setattr(measure, "SAMPLES", 200)
    monkeypatch.setattr(measure, "GENERATED", 1000)
    monkeypatch.setattr(measure, "ProcessPoolExecutor", lambda **_: ThreadPoolExecutor(1))
    for script in (exp_curve_gan, sine_gan, wgan, multiples_of_five_gan, table_gan):
        shorten(monkeypatch, script)

    def run(benchmark, *options):
        monkeypatch.setattr(sys, "argv", [f"{benchmark.__name__}.py", "--seeds", "1", *options])
        benchmark.main()

    return run


@pytest.mark.parametrize(
    ("script", "name", "loops"),
    [
        (sine_gan, "exponential", ablation.POINTS),
        (multiples_of_five_gan, "2 values", ablation.INTEGERS),
    ],
)
def test_without_nothing_a_loop_is_that_of_the_script_and_each_part_matters(
    script, name, loops, monkeypatch
):
    monkeypatch.setattr(script, "EMA_DECAY", loops["nothing"].ema_decay)  # as it was
    data = measure.training_data(name)
    expected = script.train(data, epochs=2, progress=False)
    for part, loop in loops.items():
        training = loop.train(data, epochs=2, progress=False)
        same = torch.equal(training.samples, expected.samples)
        assert same == (part == "nothing"), part


def test_each_failure_is_measured(tmp_path):
    rows = ablation.draw_failures(tmp_path / "failures.png", epochs=1).splitlines()[2:]
    assert len(rows) == len(ablation.FAILURES)
    assert (tmp_path / "failures.png").exists()


def test_a_training_set_is_as_good_as_itself():
    points = measure.training_data("sine")
    figures = measure.evaluate("sine", points, points)
    assert (figures["excess"], figures["inside"]) == (0, 1)
    rows = measure.training_data("2 values")
    assert measure.evaluate("2 values", rows, rows)["valid"] == 1
    assert measure.evaluate("2 values", rows, rows.roll(1, dims=1))["valid"] == 0


def test_quality_is_measured_on_points_integers_and_the_ring():
    for name in ("sine", "2 values"):
        figures = quality.learn(name, 0, epochs=1)
        assert "sine" in quality.table({"sine": [figures]}, ["sine"])
    assert 0 <= quality.learn_ring(wgan, 0, epochs=3)["clusters found"] <= 8
    book = quality.learn_by_the_book("sine", 0, limit=0)
    assert "excess" in book


def test_the_best_method_is_bold_and_one_without_a_figure_is_left_blank():
    runs = {"ours": [{"AUC": 0.7}, {"AUC": 0.8}], "theirs": [{"AUC": 0.4, "seconds": 2.0}]}
    rows = measure.comparison(runs, {"AUC": 0.5, "seconds": 0.0}).splitlines()[2:]
    assert rows == ["| ours | 0.75 |  |", "| theirs | **0.4** | **2** |"]


def test_a_row_of_readme_keeps_what_a_script_learns():
    measure.write_script("wgan", 9.4, "8 of 8 clusters")
    row = re.search(r"\| `wgan\.py` \|.*", measure.README.read_text())[0].split(" | ")
    assert row[1].startswith("clusters")
    assert row[2:] == ["9", "8 of 8 clusters |"]


def test_speed_and_its_command_are_written(trial):
    trial(speed, "--limit", "0", "--epochs", "1")
    page = (measure.RESULTS / "speed.md").read_text()
    assert "not in 0 s" in page
    assert "`python benchmarks/speed.py --seeds 1 --limit 0 --epochs 1`" in page


def test_verdicts_on_faults_are_counted(trial, monkeypatch):
    monkeypatch.setattr(verdict, "ROWS", (300,))
    monkeypatch.setattr(verdict, "COLUMNS", (2,))
    monkeypatch.setattr(verdict, "UNUSUAL", {"waves": verdict.with_shuffled(verdict.wave, 300)})
    before = (measure.RESULTS / "verdict.md").read_text()
    trial(verdict)
    assert (measure.RESULTS / "verdict.md").read_text() != before


def test_copies_of_rows_are_found(monkeypatch):
    copies = {"copies": lambda rows, *_, **__: rows}
    monkeypatch.setattr(table_quality, "METHODS", table_quality.METHODS | copies)
    figures = table_quality.measured(("iris", "table_gan.py"), 0, epochs=1)
    assert 0 <= figures["AUC"] <= 1
    assert table_quality.measured(("iris", "copies"), 0)["near-copies"] == 1


def test_the_textbook_stops_by_itself_or_at_its_limit():
    assert textbook.learn_integers(measure.training_data("2 values"), seed=0).stopped


@pytest.mark.parametrize("example", textbook.EXAMPLES)
def test_each_example_learns_digits(example):
    result = textbook.learn_digits(torch.rand(64, 1, 28, 28), seed=0, limit=0, example=example)
    noise = torch.randn(2, textbook.PICTURE_LATENT_DIM)
    assert result.generator(noise).shape == (2, 1, 28, 28)


def test_patches_tell_blurred_pictures():
    sharp = torch.rand(200, 1, 28, 28)
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
    fresh = torch.rand(200, 1, 28, 28)
    to_blurred = image_quality.patch_distance(blurred, sharp)
    assert to_blurred > 3 * image_quality.patch_distance(fresh, sharp)
