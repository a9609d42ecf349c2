"""The verdict, on generators whose quality is known."""

import pytest
import torch
from helpers import new_training
from torch import nn

import common
import images


class Function(nn.Module):
    """A generator that computes a function of the noise."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def judge(data, function, latent_dim=2, samples=16384, features=None, **limits):
    """A finished training of such a generator."""
    training = new_training(data, features=features)
    generator = Function(function)
    for _ in training.epochs():
        training.evaluate(generator, torch.randn(1024, latent_dim), 0.0, 0.0)
    return training.finish(generator, torch.randn(samples, latent_dim), **limits)


def uniform(noise):
    return (1 + torch.erf(noise[:, 0] / 2**0.5)) / 2


def curve(noise, length=50.0):
    """Points on the exponential curve, from 0 to `length`."""
    x = length * uniform(noise)
    return torch.stack([x, 1.08**x], dim=1)


def clusters(noise, share=0.05):
    """Two round clusters; `share` of the points lie in the second."""
    second = (uniform(noise) < share).float()
    centres = 5 * second[:, None] * torch.tensor([1.0, 2.0])
    return centres + 0.1 * torch.randn(len(noise), 2)


def outliers(noise):
    """A round cluster, and 5 % of the points far from it."""
    return noise + 20 * (torch.rand(len(noise), 1) < 0.05)


GOOD = {  # the data, as a function of noise; rows of them; the generator
    "curve": (curve, 1000, curve),
    "slightly thick curve": (curve, 1000, lambda noise: curve(noise) + 0.05 * noise),
    "clusters": (clusters, 1000, clusters),
}
BAD = {
    "one point": (curve, 1000, lambda noise: curve(0 * noise)),
    "a third missing": (curve, 1000, lambda noise: curve(noise, length=35.0)),
    "thick": (curve, 1000, lambda noise: curve(noise) + 3 * noise),
    "a cluster missing": (clusters, 1000, lambda noise: clusters(noise, share=0)),
    "outliers missing in few rows": (outliers, 200, lambda noise: noise),
    "off the data": (clusters, 1000, lambda noise: clusters(noise) + noise.clamp(min=0)),
    "too few rows": (torch.clone, 49, lambda noise: noise),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_generator_is_good(name):
    data, rows, generator = GOOD[name]
    trainings = [judge(data(torch.randn(rows, 2)), generator) for _ in range(5)]
    good = [training for training in trainings if training.converged]
    assert len(good) >= 4
    assert all(training.verdict.startswith("Good: ") for training in good)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_generator_is_never_good(name):
    data, rows, generator = BAD[name]
    advice = "Train on more data." if rows < 50 else "another --seed, or a lower --lr."
    for _ in range(2):
        training = judge(data(torch.randn(rows, 2)), generator)
        assert not training.converged
        first, *lines, last = training.verdict.splitlines()
        assert first.startswith("WARNING: ")
        assert any(line.startswith("  FAIL") for line in lines)
        assert last.endswith(advice)


def test_the_limit_is_what_fresh_rows_reach():
    """About 1 in 20 fresh samples of the same size lies beyond it."""
    beyond = 0
    for _ in range(30):
        rows = clusters(torch.randn(1000, 2), share=0.3)
        real, fresh = common.Standardize(rows[:500])(rows).split(500)
        beyond += common.sliced_wasserstein(real, fresh) > common.fresh_distance(real)
    assert beyond <= 6


def pictures(noise):
    """Pictures (n, 1, 28, 28): a plaid of random frequencies and phases."""
    places = torch.linspace(-3, 3, 28)
    frequency, other_frequency = (1 + noise[:, [0, 2]] / 4).T[:, :, None]
    phase, other_phase = noise[:, [1, 3]].T[:, :, None]
    down = (frequency * places + phase).sin()
    across = (other_frequency * places + other_phase).sin()
    return 0.5 + 0.4 * down[:, None, :, None] * across[:, None, None, :]


FAULTS = {
    "none": lambda rows: rows,
    "noise": lambda rows: rows + 0.05 * torch.randn_like(rows),
    "contrast": lambda rows: 0.5 + 0.9 * (rows - 0.5),
    "blurred": lambda rows: nn.functional.avg_pool2d(rows, 3, 1, 1),
    "brighter": lambda rows: rows + 0.1,
    "100 repeated": lambda rows: rows[torch.arange(len(rows)) % 100],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_images_are_noticed(fault):
    def generate(noise):
        return FAULTS[fault](pictures(noise))

    data = pictures(torch.randn(1000, 4))
    features = images.Features(data)
    training = judge(data, generate, 4, samples=4096, features=features, **images.LIMITS)
    assert training.converged == (fault == "none"), training.verdict


def test_the_verdict_is_a_sentence_and_a_line_for_each_check():
    """The first failed check gives the sentence; advice fits what failed."""
    data = clusters(torch.randn(1000, 2))
    good = judge(data, clusters)
    first, *lines = good.verdict.splitlines()
    assert first == "Good: the samples are as close to the data as new data would be."
    assert len(lines) == len(good.checks) == 4
    assert all(line.startswith("  ok ") for line in lines)
    assert repr(good) == f"<{first}>"

    bad = judge(data, lambda noise: clusters(noise, share=0))
    assert "FAIL  data near samples" in bad.verdict
    assert bad.verdict.splitlines()[0] == f"WARNING: {bad.checks[0].problem}"
    bad.check("copies", False, "9%", "at most 1%", "it copies.", "Use more rows.")
    assert bad.verdict.endswith("Use more rows.")


def waves(noise, frequency):
    """Points on a sine of many periods."""
    x = 10 * uniform(noise) - 5
    return torch.stack([x, (frequency * x).sin()], dim=1)


def independent(noise, frequency):
    """Points whose columns are those of `waves`, and know nothing of each other."""
    points = waves(noise, frequency)
    return torch.stack([points[:, 0], points[torch.randperm(len(points)), 1]], dim=1)


@pytest.mark.parametrize("frequency", [5, 7, 10])
def test_narrow_waves_must_be_learned(frequency):
    data = waves(torch.randn(2048, 2), frequency)
    assert judge(data, lambda noise: waves(noise, frequency)).converged
    assert not judge(data, lambda noise: independent(noise, frequency)).converged


def square(noise):
    """Points anywhere in a square of 40 by 40."""
    return 40 * (1 + torch.erf(noise / 2**0.5)) / 2


def grid(noise):
    """Points on a grid of 40 by 40."""
    return square(noise).floor()


def half_of_the_grid(noise):
    """Points on every second line of the grid."""
    return (square(noise) / torch.tensor([1, 2])).floor() * torch.tensor([1, 2])


def test_fine_detail_must_be_learned():
    data = grid(torch.randn(2000, 2))
    assert judge(data, grid).converged
    for fault in (square, half_of_the_grid):
        failed = [check.name for check in judge(data, fault).checks if not check.passed]
        assert failed[0] == "fine detail missed"


def test_many_columns_are_not_asked_for_more_than_new_rows_have():
    """Of rows in ten columns, one in fourteen lies near no other row."""
    assert judge(torch.randn(1000, 10), torch.clone, latent_dim=10).converged
    assert not judge(torch.randn(1000, 10), lambda noise: 0.8 * noise, latent_dim=10).converged


@pytest.mark.parametrize("rows", [10_000, 40_000])
def test_the_order_of_rows_does_not_matter(rows):
    """Integers in turn, as one-hot rows: each k-th of them would leave some out."""
    turns = 5 * torch.arange(rows).remainder(20)
    data = common.one_hot_encode(turns, 100)

    def generate(noise):
        chosen = (20 * uniform(noise)).long().clamp(max=19)
        return common.one_hot_encode(5 * chosen, 100)

    assert judge(data, generate).converged


@pytest.mark.parametrize(("typo", "count"), [(10_000.0, 1), (-9999.0, 10), (999.0, 4)])
def test_far_rows_are_named_and_do_not_hide_the_rest(typo, count):
    data = waves(torch.randn(2000, 2), 1)
    data[:count, 1] = typo
    rows, notes = common.prepare_rows(data, ["x", "y"])
    assert len(rows) == 2000 - count
    assert notes == [f"rows left out, as y is far from others: {count} ({typo:g})"]
    assert judge(rows, lambda noise: waves(noise, 1)).converged
    assert not judge(rows, lambda noise: independent(noise, 1)).converged


@pytest.mark.parametrize("data", [torch.randn, torch.rand, lambda *size: -torch.rand(*size).log()])
def test_rows_of_usual_data_are_neither_far_nor_long_tailed(data):
    rows, notes = common.prepare_rows(data(2000, 2))
    assert (len(rows), notes) == (2000, [])


@pytest.mark.parametrize(
    "stretch",
    [
        lambda normal: (1.5 * normal).exp(),
        lambda normal: (3 * normal).exp(),
        lambda normal: 2.0 ** (25 + 8 * normal),
        lambda normal: normal**5,
    ],
)
def test_long_tails_are_shortened_and_restored(stretch):
    """Numbers of many orders of magnitude: near the middle, errors are seen as in the tail."""
    data = stretch(torch.randn(2000, 2).double())
    standardize = common.Standardize(data)
    assert standardize(data).abs().max() < 10
    restored = standardize.inverse()(standardize(data))
    assert torch.allclose(restored, data, rtol=1e-4, atol=1e-6)
    rows, notes = common.prepare_rows(data, ["a", "b"])
    assert len(rows) == 2000
    assert [note[0] for note in notes] == ["a", "b"]
    assert judge(rows, lambda noise: stretch(noise.double())).converged
    if (data > 0).all():
        assert not judge(rows, lambda noise: stretch(noise.double()) - 0.3).converged
