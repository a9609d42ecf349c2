"""What a training says of its generator, of generators made by hand."""

import json

import pytest
import torch
from conftest import new_outcome, new_training, seeded
from torch import nn

import common
import exp_curve_gan
import multiples_of_five_gan


class Function(nn.Module):
    """A generator that computes what it is told to."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, noise):
        return self.function(noise)


def judged(data, function, latent_dim):
    """The training that ends with such a generator."""
    training = new_training(data)
    generator, loss = Function(function), torch.zeros(())
    for _ in training.epochs():
        training.evaluate(generator, torch.randn(1024, latent_dim), loss, loss)
    return training.finish(generator, torch.randn(16384, latent_dim))


def uniform(noise):
    return (1 + torch.erf(noise[:, 0] / 2**0.5)) / 2


def on_the_curve(x):
    return torch.stack([x, 1.08**x], dim=1)


def clusters(share, noise):
    """Two round clusters, the second with a share of the points."""
    second = (uniform(noise) < share).float()
    spread = 0.1 * torch.randn(len(noise), 2)
    return 5 * second[:, None] * torch.tensor([1.0, 2.0]) + spread


def curve():
    return on_the_curve(50 * torch.rand(2048))


def two_clusters():
    return clusters(0.05, torch.randn(2048, 2))


@pytest.mark.parametrize(
    ("draw", "function"),
    [
        (curve, lambda noise: on_the_curve(50 * uniform(noise))),
        (curve, lambda noise: on_the_curve(50 * uniform(noise)) + 0.05 * noise),
        (two_clusters, lambda noise: clusters(0.05, noise)),
    ],
    ids=["curve", "curve, a little thick", "clusters"],
)
def test_a_good_generator_is_called_good(draw, function):
    """On at least nine of ten data sets, as these differ by chance."""
    trainings = [judged(draw(), function, 2) for _ in range(10)]
    good = [training for training in trainings if training.converged]
    assert len(good) >= 9
    assert all(training.verdict.startswith("Good: ") for training in good)


@pytest.mark.parametrize(
    ("draw", "function"),
    [
        (curve, lambda noise: on_the_curve(torch.full((len(noise),), 25.0))),
        (curve, lambda noise: on_the_curve(35 * uniform(noise))),
        (curve, lambda noise: on_the_curve(50 * uniform(noise)) + 3 * noise),
        (two_clusters, lambda noise: clusters(0, noise)),
        (two_clusters, lambda noise: clusters(0.05, noise) + noise.clamp(min=0)),
    ],
    ids=["one point", "a third left out", "thick", "rare cluster left out", "astray"],
)
def test_a_bad_generator_is_never_called_good(draw, function):
    for _ in range(3):
        training = judged(draw(), function, 2)
        assert not training.converged
        assert training.verdict.startswith("WARNING, not converged: ")


def test_a_generator_of_no_numbers_is_not_kept():
    with pytest.raises(common.Failure, match="diverged"):
        judged(curve(), lambda noise: torch.full((len(noise), 2), float("nan")), 2)


def test_precision_and_coverage_are_the_shares_near_and_covered():
    generator = seeded(0)
    real = torch.rand(8000, 2, generator=generator)
    left_half = torch.rand(2000, 2, generator=generator) * torch.tensor([0.5, 1.0])
    precision, coverage = common.precision_and_coverage(real[:500], left_half)
    assert precision == 1
    assert coverage == pytest.approx(0.5, abs=0.1)
    precision, coverage = common.precision_and_coverage(left_half[:500], real)
    assert precision == pytest.approx(0.5, abs=0.1)
    assert coverage == 1


def test_near_is_up_to_the_fifth_nearest_other_row():
    real = torch.arange(100.0).unsqueeze(1)  # the fifth nearest is 3 away: 1, 1, 2, 2, 3
    _, coverage = common.precision_and_coverage(real, torch.tensor([[50.2]]))
    assert coverage == pytest.approx(0.06)  # 48 to 53


def test_copies_of_half_of_the_rows_are_seen():
    rows = torch.randn(500, 2, generator=seeded(0))

    def drawn_from(some):
        return lambda noise: some[(len(some) * uniform(noise)).long().clamp(max=len(some) - 1)]

    assert judged(rows, drawn_from(rows), 2).converged
    assert "only 250 distinct samples" in judged(rows, drawn_from(rows[:250]), 2).verdict


def test_a_small_cluster_left_out_is_seen_in_few_rows():
    rows = torch.randn(200, 2, generator=seeded(0))
    rows[:10] += 20
    training = judged(rows, lambda noise: torch.randn(len(noise), 2), 2)
    assert not training.converged
    assert training.coverage == pytest.approx(0.95, abs=0.01)


def test_missing_integers_are_named():
    data = multiples_of_five_gan.real_samples(2048, generator=seeded(0))

    def thirteen_of_twenty(noise):
        return common.one_hot_encode(5 * (13 * uniform(noise)).long().clamp(max=12), 100)

    training = judged(data, thirteen_of_twenty, 100)
    training.check_missing(*map(common.one_hot_decode, (data, training.samples)))
    assert training.metrics["missing_values"] == [65, 70, 75, 80, 85, 90, 95]
    assert not training.converged
    assert "7 values are missing or rare: 65, 70" in training.verdict


def test_a_run_that_collapsed_says_so_with_the_remedy(monkeypatch, tmp_path, capsys):
    def collapsed(features=2):
        network = nn.Linear(exp_curve_gan.LATENT_DIM, features)
        nn.init.zeros_(network.weight)  # one point, whatever the noise
        network.weight.register_hook(torch.zeros_like)
        return network

    monkeypatch.setattr(exp_curve_gan, "build_generator", collapsed)
    arguments = ["--epochs", "2", "--quiet", "--device", "cpu", "--out", str(tmp_path)]
    assert exp_curve_gan.main(arguments) == 0
    said = capsys.readouterr().out
    assert "WARNING, not converged" in said
    assert "--epochs" in said
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["converged"] is False
    assert metrics["recall"] == metrics["coverage"] < 0.2


@pytest.mark.parametrize("count", [1, 2, 10, 49])
def test_few_rows_are_never_called_good(count):
    rows = torch.randn(count, 2, generator=seeded(0))
    training = judged(rows, lambda noise: rows[torch.randint(count, (len(noise),))], 2)
    assert not training.converged
    assert f"too few rows of data to tell: {count} of 50" in training.verdict
    assert "more rows" in training.verdict


def test_the_limit_is_what_fresh_rows_reach():
    """About 1 in 20 fresh samples, as large as the data, lies beyond it."""
    beyond = 0
    for seed in range(40):
        torch.manual_seed(seed)
        rows, fresh = clusters(0.3, torch.randn(1000, 2)).split(500)
        beyond += common.SlicedWasserstein(rows)(fresh) > common.fresh_distance(rows)
    assert beyond <= 8


def test_nothing_checked_is_not_good():
    assert not new_outcome().converged
