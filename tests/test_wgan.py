"""wgan.py: its clusters, and the critic's estimate of the distance."""

import pytest
import torch
from conftest import seeded

import wgan


def test_real_samples_lie_in_eight_clusters():
    points = wgan.real_samples(1000)
    assert torch.allclose(points.norm(dim=1), torch.tensor(wgan.RADIUS), atol=0.3)
    eighths = (torch.atan2(points[:, 1], points[:, 0]) / (torch.pi / 4)).round() % 8
    assert eighths.long().bincount().min() > 80


def test_the_estimate_falls_with_the_distance():
    data = wgan.real_samples(2048, seeded(0))
    history = wgan.train(data, epochs=5, progress=False).history
    assert history[-1].distance < 0.5 * history[0].distance
    assert -history[-1].discriminator_loss < 0.5 * -history[0].discriminator_loss


def test_the_penalty_wants_a_slope_of_one():
    points, fakes = torch.randn(2, 50, 2)
    for slope, expected in ((0.0, 1.0), (1.0, 0.0), (3.0, 4.0)):
        found = wgan.slope_penalty(lambda rows, slope=slope: slope * rows[:, :1], points, fakes)
        assert found.item() == pytest.approx(expected)
