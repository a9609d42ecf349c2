"""multiples_of_five_gan.py, used from code and as a script."""

import pytest
import torch
from conftest import DEVICES

import common
import multiples_of_five_gan as script


def test_real_samples_are_one_hot_multiples_of_five():
    rows = script.real_samples(2000)
    assert rows.shape == (2000, 100)
    assert (rows.sum(dim=1) == 1).all()
    assert set(common.one_hot_decode(rows).tolist()) == set(range(0, 100, 5))


@pytest.mark.parametrize("device", DEVICES)
def test_a_few_epochs_find_the_allowed_integers(device):
    training = script.train(script.real_samples(1024), device=device, epochs=8, progress=False)
    assert training.history[-1].distance < 0.9 * training.history[0].distance
    rows = training.generator(torch.randn(5000, script.LATENT_DIM))
    assert (rows.sum(dim=1) == 1).all()
    integers = common.one_hot_decode(rows)
    assert (integers % 5 == 0).float().mean() > 0.9
    assert integers.unique().numel() >= 20


def test_learns_other_sets_of_integers_of_another_depth():
    allowed = torch.tensor([1, 2, 7])
    data = common.one_hot_encode(allowed.repeat(200), 8)
    training = script.train(data, epochs=10, progress=False)
    counts = common.one_hot_decode(training.generator(torch.randn(3000, 8))).bincount(minlength=8)
    assert counts[allowed].sum() > 0.95 * 3000
    assert counts[allowed].min() > 0.2 * 3000


def test_command_line(tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    assert script.main(["--epochs", "1", "--quiet", *out]) == 0
    assert capsys.readouterr().err == ""
    assert script.main(["--generate", "50", *out]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "integer"
    assert len(rows) == 50
    assert all(0 <= int(row) < 100 for row in rows)
    assert script.main(["--interpolate", "7", *out]) == 0
    assert (tmp_path / "interpolation.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_integers(tmp_path, capsys):
    file = tmp_path / "integers.csv"
    file.write_text("3\n1\n4\n" * 50)
    arguments = ["--data", str(file), "--epochs", "1", "--quiet", "--out", str(tmp_path / "out")]
    assert script.main(arguments) == 0
    file.write_text("3\n100\n")
    assert script.main(arguments) == 1
    assert "line 2: expected an integer in 0..99" in capsys.readouterr().err


def test_a_rare_integer_that_is_missing_is_named(monkeypatch):
    """One row in 400 has it: too few for all held-out samples to show it."""
    integers = torch.cat([torch.arange(0, 100, 5).repeat(100), torch.full((5,), 3)])
    data = common.one_hot_encode(integers, 100)
    finish = common.Training.finish

    def without(training, generator, noise):
        finish(training, generator, noise)
        training.samples = training.samples[training.samples[:, 3] == 0]
        return training

    monkeypatch.setattr(common.Training, "finish", without)
    training = script.train(data, epochs=1, progress=False)
    assert 3 in training.metrics["missing_values"]


def test_noise_of_another_size_is_refused_before_the_training(monkeypatch):
    monkeypatch.setattr(script, "LATENT_DIM", 10)
    monkeypatch.setattr(common.Training, "evaluate", None)
    with pytest.raises(ValueError, match="LATENT_DIM must be 100"):
        script.train(script.real_samples(100), progress=False)
