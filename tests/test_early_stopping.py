"""A training ends when there is nothing more to be had: no sooner, and no later."""

import pytest
import torch
from conftest import capped, seeded

import common
import exp_curve_gan
import multiples_of_five_gan
import sine_gan


def one_cluster():
    return torch.tensor([3.0, -1.0]) + 0.4 * torch.randn(2048, 2, generator=seeded(1))


def two_integers():
    return common.one_hot_encode(torch.tensor([3, 77]).repeat(1024), 100)


@pytest.mark.parametrize(
    ("script", "data"), [(sine_gan, one_cluster()), (multiples_of_five_gan, two_integers())]
)
def test_what_is_learned_at_once_ends_early_and_more_epochs_cost_nothing(script, data):
    training = script.train(data, progress=False)
    assert len(training.history) < 0.7 * script.EPOCHS
    assert training.best_epoch > len(training.history) - script.COOLING
    longer = script.train(data, epochs=10_000, progress=False)
    assert longer.history == training.history
    latents = torch.randn(100, script.LATENT_DIM, generator=seeded(2))
    assert longer.generator(latents).equal(training.generator(latents))


def test_a_training_that_still_improves_goes_on(monkeypatch):
    data = exp_curve_gan.real_samples(2048, seeded(1))
    usual = exp_curve_gan.train(data, progress=False)
    capped(monkeypatch, exp_curve_gan, 10)
    slow = exp_curve_gan.train(data, epochs=200, progress=False)
    assert len(slow.history) > 1.4 * len(usual.history)
    assert slow.history[-1].distance < 1.2 * usual.history[-1].distance
