"""sine_gan.py: its data, points from a file, and the same bytes for the same seed."""

import numpy as np
import torch
from conftest import capped

import sine_gan


def test_real_samples_lie_on_the_sine():
    x, y = sine_gan.real_samples(1000).T
    assert -5 <= x.min() < -4.9
    assert 4.9 < x.max() <= 5
    assert torch.allclose(y, x.sin())


def test_learns_points_from_a_file(tmp_path, monkeypatch, capsys):
    capped(monkeypatch, sine_gan)
    np.savetxt(
        tmp_path / "points.csv", np.random.rand(100, 2), "%.6f", ",", header="a,b", comments=""
    )
    use = ["--data", str(tmp_path / "points.csv"), "--epochs", "1", "--quiet"]
    assert sine_gan.main([*use, "--out", str(tmp_path)]) == 0
    assert "Trained on 100 samples" in capsys.readouterr().out
    (tmp_path / "points.csv").write_text("1,2,3\n")
    assert sine_gan.main([*use, "--out", str(tmp_path)]) == 1
    assert "line 1: expected 2 finite number" in capsys.readouterr().err
    assert sine_gan.main(["--data", "absent.csv", "--out", str(tmp_path)]) == 1
    assert "cannot read absent.csv" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_bytes(tmp_path, monkeypatch):
    capped(monkeypatch, sine_gan)
    for folder in ("first", "second"):
        use = ["--epochs", "2", "--animate", "--quiet", "--device", "cpu"]
        assert sine_gan.main([*use, "--out", str(tmp_path / folder)]) == 0
    for path in (tmp_path / "first").glob("[!g]*"):  # torch gives each generator.pt a new number
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name
