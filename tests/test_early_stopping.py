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
    assert training.kept_epoch > len(training.history) - script.COOLDOWN
    longer = script.train(data, epochs=10_000, progress=False)
    assert longer.history == training.history
    latents = torch.randn(100, script.LATENT_DIM, generator=seeded(2))
    assert longer.generator(latents).equal(training.generator(latents))


def test_a_training_that_still_improves_goes_on(monkeypatch):
    """With distances that are told, not measured: they fall for 100 epochs, then stay."""

    def evaluate(training, model, _, d_loss, g_loss, *__):
        epoch = len(training.history) + 1
        distance = max(1.0, 101.0 - epoch)
        row = common.Evaluation(epoch, d_loss.item(), g_loss.item(), distance)
        training.note(row, distance, model)

    capped(monkeypatch, exp_curve_gan, 1)
    monkeypatch.setattr(common.Training, "evaluate", evaluate)
    training = exp_curve_gan.train(exp_curve_gan.real_samples(64), epochs=1000, progress=False)
    assert len(training.history) == 100 + exp_curve_gan.PATIENCE + exp_curve_gan.COOLDOWN
