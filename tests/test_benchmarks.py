"""The benchmarks still fit the scripts that they measure."""

import ablation
import failures
import measure
import pytest
import speed
import textbook
import torch

import common


@pytest.mark.parametrize("without", ablation.POINTS_WITHOUT)
def test_each_change_can_be_taken_out_of_the_curves(without):
    module = measure.variant("exp_curve_gan", ablation.POINTS_WITHOUT[without])
    training = module.train(module.real_samples(64), epochs=1, progress=False)
    assert training.generator(torch.randn(5, 2)).shape == (5, 2)


@pytest.mark.parametrize("without", ablation.INTEGERS_WITHOUT)
def test_each_change_can_be_taken_out_of_the_integers(without):
    module = measure.variant("multiples_of_five_gan", ablation.INTEGERS_WITHOUT[without])
    training = module.train(module.real_samples(64), epochs=1, progress=False)
    assert training.generator(torch.randn(5, 100)).shape == (5, 100)


def test_a_change_that_is_not_in_the_script_is_refused():
    with pytest.raises(ValueError, match="0 times"):
        measure.variant("sine_gan", [("no such text", "")])


def test_a_training_set_is_judged_as_good_as_itself():
    data = measure.training_points("sine")
    found = measure.judge("sine", data, data)
    assert found["excess"] == 0
    assert found["off-curve"] < 1e-6
    assert found["inside"] == found["coverage"] == 1


def test_the_textbook_runs():
    shape = measure.SHAPES["sine"]
    ended = textbook.learn_points(shape.draw(256), shape.curve, limit=0)
    assert ended.iterations == 2
    assert not ended.stopped
    ended = textbook.learn_integers(measure.training_integers("2 values"), limit=0)
    assert ended.generator(torch.randn(3, 100)).shape == (3, 100)


def test_moments_of_a_training_are_noted():
    module = measure.variant("exp_curve_gan", [])
    evaluate = common.Training.evaluate
    with speed.noting_moments() as moments:
        training = module.train(module.real_samples(64), epochs=2, progress=False)
    assert common.Training.evaluate is evaluate
    assert 0 < moments[0][0] < moments[1][0]
    latents = torch.randn(5, 2)
    assert torch.equal(moments[1][1].eval()(latents), training.generator(latents))


def test_moments_are_looked_up():
    course = [(1.0, 4.0), (2.0, 1.9), (3.0, 1.2)]
    assert speed.first_at_most(2.0, course) == 2.0
    assert speed.first_at_most(1.0, course) == float("inf")
    assert speed.last_by(2.5, course) == 1.9
    assert speed.in_words([1.0, 2.0], 400) == "1.5"
    assert speed.in_words([1.0, float("inf")], 400) == "1.0; 1 of 2 never"


def test_the_floor_counts_each_product_of_the_networks():
    """Of 3 hidden layers and an output: generator 3 each, discriminator 6 and 2 each."""
    products = speed.products_of_points(10)
    assert len(products) == (3 + 6 + 2) * 4 - 2 + 3  # and 3 of the generator's linear way around
    assert sum(n == 20 for n, _, _ in products) == 6 * 4 - 1
    assert speed.floor_seconds(products) > 0


def test_code_is_run_in_its_own_process():
    found = speed.in_its_own_process("import sys; spent = {'seconds': int(sys.argv[1])}", 7)
    assert found["seconds"] == 7
    assert found["MB"] > 1


@pytest.mark.parametrize("failure", failures.FAILURES)
def test_each_failure_can_be_brought_about(failure):
    module = measure.variant("sine_gan", failures.FAILURES[failure])
    training = module.train(module.real_samples(64), epochs=1, progress=False)
    assert training.generator(torch.randn(5, 2)).shape == (5, 2)


def test_what_one_benchmark_finds_stays_when_another_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "STORE", tmp_path / "found.json")
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("# It\n<!-- variants -->\n<!-- end of variants -->\n")
    measure.store("digits_gan", [{"Frechet": 3.0, "seconds": 2.0}] * 2, "one.py")
    found = [{"plain": 0.9, "Frechet": 2.0, "seconds": 200.0}]
    measure.store("dcgan", [*found, {"plain": 0.8, "Frechet": 3.0, "seconds": 400.0}], "other.py")
    readme = (tmp_path / "README.md").read_text()
    assert "| digits_gan | Frechet 3 / 3; seconds 2 / 2 |" in readme
    assert "| dcgan | Frechet 2.5 / 3; seconds 300 / 400 |" in readme
    table = measure.stored_table(["digits_gan", "dcgan"])
    assert "| digits_gan | 3 / 3 | 2 / 2 |  |" in table
    assert "| dcgan | 2.5 / 3 | 300 / 400 | 0.85 / 0.8 |" in table
    assert "dcgan: Measured by" in table
