"""sine_gan.py: its data, points from a file, and the same bytes for the same seed."""

import pytest
import torch
from conftest import capped, name_of

import multiples_of_five_gan
import sine_gan


def test_real_samples_lie_on_the_sine():
    x, y = sine_gan.real_samples(1000).T
    assert -5 <= x.min() < -4.9
    assert 4.9 < x.max() <= 5
    assert torch.allclose(y, x.sin())


@pytest.mark.parametrize(
    ("script", "text", "wrong", "complaint"),
    [
        (sine_gan, "a,b\n" + "1,2\n3,4\n" * 50, "1,2,3\n", "line 1: expected 2 finite number"),
        (multiples_of_five_gan, "3\n4\n" * 50, "3\n100\n", "line 2: expected an integer in 0..99"),
    ],
    ids=name_of,
)
def test_learns_a_file(script, text, wrong, complaint, tmp_path, monkeypatch, capsys):
    capped(monkeypatch, script)
    file = tmp_path / "data.csv"
    use = ["--data", str(file), "--epochs", "1", "--quiet", "--out", str(tmp_path)]
    for content, status in ((text, 0), (wrong, 2)):
        file.write_text(content)
        assert script.main(use) == status
    printed = capsys.readouterr()
    assert "Trained on 100 samples" in printed.out
    assert complaint in printed.err


def test_the_same_seed_gives_the_same_bytes(tmp_path, monkeypatch):
    capped(monkeypatch, sine_gan)
    for folder in ("first", "second"):
        use = ["--epochs", "2", "--quiet", "--device", "cpu"]
        assert sine_gan.main([*use, "--out", str(tmp_path / folder)]) == 0
    for path in (tmp_path / "first").glob("[!g]*"):  # torch gives each generator.pt a new number
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name
