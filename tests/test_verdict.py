"""The verdict, on generators whose quality is known."""

import pytest
import torch
from conftest import new_training
from torch import nn

import common
import multiples_of_five_gan


class Function(nn.Module):
    """A generator that computes a function of the noise."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def judge(data, function, latent_dim=2):
    """A finished training of such a generator."""
    training, loss = new_training(data), torch.zeros(())
    for _ in training.epochs():
        training.evaluate(Function(function), torch.randn(1024, latent_dim), loss, loss)
    return training.finish(Function(function), torch.randn(16384, latent_dim))


def uniform(noise):
    return (1 + torch.erf(noise[:, 0] / 2**0.5)) / 2


def on_curve(x):
    return torch.stack([x, 1.08**x], dim=1)


def curve():
    return on_curve(50 * torch.rand(1000))


def clusters(share, noise):
    """Two round clusters; `share` of the points lie in the second."""
    second = (uniform(noise) < share).float()
    return 5 * second[:, None] * torch.tensor([1.0, 2.0]) + 0.1 * torch.randn(len(noise), 2)


def two_clusters():
    return clusters(0.05, torch.randn(1000, 2))


GOOD = {
    "curve": (curve, lambda noise: on_curve(50 * uniform(noise))),
    "slightly thick curve": (curve, lambda noise: on_curve(50 * uniform(noise)) + 0.05 * noise),
    "clusters": (two_clusters, lambda noise: clusters(0.05, noise)),
}
BAD = {
    "one point": (curve, lambda noise: on_curve(torch.full((len(noise),), 25.0))),
    "a third missing": (curve, lambda noise: on_curve(35 * uniform(noise))),
    "thick": (curve, lambda noise: on_curve(50 * uniform(noise)) + 3 * noise),
    "a cluster missing": (two_clusters, lambda noise: clusters(0, noise)),
    "off the data": (two_clusters, lambda noise: clusters(0.05, noise) + noise.clamp(min=0)),
    "few rows": (lambda: torch.randn(49, 2), lambda noise: noise),
}


@pytest.mark.parametrize("kind", GOOD | BAD)
def test_a_good_generator_is_good_and_a_bad_one_never(kind):
    draw, function = (GOOD | BAD)[kind]
    trainings = [judge(draw(), function) for _ in range(5 if kind in GOOD else 2)]
    good = sum(training.verdict.startswith("Good: ") for training in trainings)
    warned = sum(each.verdict.startswith("WARNING, not converged: ") for each in trainings)
    assert good + warned == len(trainings)
    assert good >= 4 if kind in GOOD else good == 0


def test_the_limit_is_what_fresh_rows_reach():
    """About 1 in 20 fresh samples of the same size lies beyond it."""
    beyond = 0
    for _ in range(30):
        rows, fresh = clusters(0.3, torch.randn(1000, 2)).split(500)
        limit = common.fresh_distance(rows, common.Standardize(rows))
        beyond += common.sliced_wasserstein(rows, fresh) > limit
    assert beyond <= 6


def test_a_small_cluster_that_is_missing_is_noticed_in_few_rows():
    rows = torch.randn(200, 2)
    rows[:10] += 20
    training = judge(rows, lambda noise: torch.randn(len(noise), 2))
    assert training.verdict.endswith("Try more --epochs, another --seed or a lower --lr.")
    assert training.metrics["recall"] == training.coverage == pytest.approx(0.95, abs=0.02)


def test_missing_integers_are_named():
    data = multiples_of_five_gan.real_samples(1024)
    first = common.one_hot_encode(5 * torch.arange(13), 100)  # 0 to 60
    training = judge(data, lambda noise: first[(13 * uniform(noise)).long().clamp(max=12)], 100)
    training.check_missing(*map(common.one_hot_decode, (data, training.samples)))
    assert training.metrics["missing_values"] == [65, 70, 75, 80, 85, 90, 95]
    assert not training.converged
    assert "missing or rare: 65, 70" in training.verdict


def test_the_last_finite_generator_is_kept():
    training, model = new_training(torch.rand(100, 2), epochs=10), nn.Linear(2, 2)
    noise, loss = torch.randn(100, 2), torch.tensor(0.7)
    for epoch in training.epochs():
        if epoch == 3:
            nn.init.constant_(model.weight, float("nan"))
        training.evaluate(model, noise, loss, loss)
    training.finish(model, noise)
    assert len(training.history) == 3
    assert training.stopping.kept_epoch < 3
    assert training.generator(noise).isfinite().all()
    assert not training.converged
