"""wgan.py, used from code and as a script."""

import json

import pytest
import torch
from conftest import DEVICES, seeded

import wgan as script

FILES = {"generator.pt", "generator.pt2", "samples.png", "estimate.png", "history.csv"}


def test_real_samples_lie_in_eight_clusters():
    points = script.real_samples(1000, generator=seeded(0))
    assert torch.allclose(points.norm(dim=1), torch.tensor(script.RADIUS), atol=0.3)
    eighths = (torch.atan2(points[:, 1], points[:, 0]) / (torch.pi / 4)).round() % 8
    assert eighths.long().bincount().min() > 80


@pytest.mark.parametrize("device", DEVICES)
def test_the_estimate_falls_with_the_distance(device):
    data = script.real_samples(2048, generator=seeded(0))
    history = script.train(data, device=device, epochs=8, progress=False).history
    assert history[-1].distance < 0.5 * history[0].distance
    assert -history[-1].discriminator_loss < 0.5 * -history[0].discriminator_loss


def test_the_penalty_wants_a_slope_of_one():
    points, fakes = torch.randn(2, 50, 2)
    for slope, due in ((0.0, 1.0), (1.0, 0.0), (3.0, 4.0)):
        found = script.slope_penalty(lambda rows, s=slope: s * rows[:, :1], points, fakes)
        assert found.item() == pytest.approx(due)


def test_same_seed_same_training_other_seed_another():
    data = script.real_samples(256, generator=seeded(0))
    histories = [script.train(data, seed=s, epochs=2, progress=False).history for s in (1, 1, 2)]
    assert histories[0] == histories[1] != histories[2]


def test_other_points_of_any_number_of_columns():
    for columns in (1, 3):
        training = script.train(torch.rand(100, columns), epochs=1, progress=False)
        assert training.generator(torch.randn(5, 2)).shape == (5, columns)


def test_command_line(tmp_path, capsys):
    use = ["--quiet", "--out", str(tmp_path)]
    assert script.main([*use, "--epochs", "2", "--animate"]) == 0
    assert {file.name for file in tmp_path.iterdir()} >= FILES | {"training.gif"}
    assert json.loads((tmp_path / "metrics.json").read_text())["epochs"] == 2
    points = torch.jit.load(tmp_path / "generator.pt")(torch.randn(9, script.LATENT_DIM))
    assert points.shape == (9, 2)
    capsys.readouterr()
    assert script.main([*use, "--generate", "5", "--interpolate", "4"]) == 0
    assert capsys.readouterr().out.startswith("x,y\n")
    assert (tmp_path / "interpolation.png").exists()
