"""digits_gan.py: an interrupted training is resumed."""

import signal
from functools import partial

import torch
from conftest import arguments, at_epoch, capped

import digits_gan


def test_a_resumed_training_ends_as_if_it_had_not_been_interrupted(
    data_dir, tmp_path, monkeypatch, capsys
):
    capped(monkeypatch, digits_gan)
    use = ["--epochs", "3", "--seed", "5"]
    whole, parts = (
        [*arguments(digits_gan, data_dir, tmp_path / name), *use] for name in ("whole", "parts")
    )
    assert digits_gan.main(whole) == 0
    at_epoch(monkeypatch, 2, partial(signal.raise_signal, signal.SIGINT))
    assert digits_gan.main(parts) == 130
    assert "--resume" in capsys.readouterr().err
    assert digits_gan.main([*parts, "--resume", "--seed", "6"]) == 2
    assert "omit --resume" in capsys.readouterr().err
    assert digits_gan.main([*parts, "--resume"]) == 0
    for name in ("history.csv", "samples.png", "metrics.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    noise = torch.randn(8, digits_gan.LATENT_DIM)
    resumed, due = (torch.jit.load(tmp_path / name / "generator.pt") for name in ("parts", "whole"))
    assert resumed(noise).equal(due(noise))
    assert digits_gan.main([*parts, "--resume"]) == 1  # it has ended
    assert "omit --resume" in capsys.readouterr().err
