"""sine_gan.py, used from code and as a script."""

import pytest
import torch
from conftest import DEVICES

import sine_gan


def test_real_samples_lie_on_the_sine():
    x, y = sine_gan.real_samples(1000).T
    assert x.min() >= -5
    assert x.max() <= 5
    assert torch.allclose(y, x.sin())


@pytest.mark.parametrize("device", DEVICES)
def test_a_few_epochs_bring_the_points_closer(device):
    training = sine_gan.train(sine_gan.real_samples(512), device=device, epochs=8, progress=False)
    assert training.history[-1].distance < 0.8 * training.history[0].distance


def test_command_line(tmp_path, capsys):
    assert sine_gan.main(["--epochs", "1", "--quiet", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    points = torch.jit.load(tmp_path / "generator.pt")(torch.randn(9, sine_gan.LATENT_DIM))
    assert points.shape == (9, 2)
