"""The benchmarks still fit the scripts that they measure."""

import sys

import pytest
import torch
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import ablation
import measure
import textbook


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
    shape = measure.SHAPES[1]
    torch.manual_seed(0)
    data = shape.draw(measure.SAMPLES)
    found = measure.judge(shape, data, data)
    assert found["excess"] == 0
    assert found["off-curve"] < 1e-6
    assert found["inside"] == found["coverage"] == 1


def test_the_textbook_runs():
    shape = measure.SHAPES[1]
    ended = textbook.learn_points(shape.draw(256), shape.curve, limit=0)
    assert ended.iterations == 2
    assert not ended.stopped
    ended = textbook.learn_integers(measure.draw_integers("2 values"), limit=0)
    assert ended.generator(torch.randn(3, 100)).shape == (3, 100)
