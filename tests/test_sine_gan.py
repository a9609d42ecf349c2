"""sine_gan.py, used from code and as a script."""

import pytest
import torch
from conftest import DEVICES, seeded

import sine_gan


def test_real_samples_lie_on_the_sine():
    x, y = sine_gan.real_samples(1000).T
    assert x.min() >= -5
    assert x.max() <= 5
    assert torch.allclose(y, x.sin())


@pytest.mark.parametrize("device", DEVICES)
def test_a_short_training_brings_the_points_near(device):
    data = sine_gan.real_samples(2048, generator=seeded(0))
    training = sine_gan.train(data, device=device, epochs=12, progress=False)
    assert training.history[-1].distance < 0.6 * training.history[0].distance


def test_command_line(tmp_path, capsys):
    assert sine_gan.main(["--epochs", "1", "--quiet", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    points = torch.jit.load(tmp_path / "generator.pt")(torch.randn(9, sine_gan.LATENT_DIM))
    assert points.shape == (9, 2)
