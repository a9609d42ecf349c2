"""conditional_gan.py: it writes the digit that it is asked for."""

import numpy as np
import pytest
import torch
from conftest import arguments, capped, own_data
from test_images import write_pictures

import common
import conditional_gan
import images


def test_real_samples_are_images_with_their_labels(data_dir):
    (rows,) = own_data(conditional_gan, data_dir)
    data, labels = images.load_images("mnist", data_dir)
    pixels, label = rows.split([784, 10], dim=1)
    distance, nearest = torch.cdist(pixels, data).min(dim=1)
    assert distance.max() < 1e-2
    assert label.argmax(dim=1).equal(labels[nearest])


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """The options for a generator that has learned the tiny digits."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        capped(patch, conditional_gan, 12)
        use = arguments(conditional_gan, data_dir, out)
        assert conditional_gan.main([*use, "--epochs", "10"]) == 0
    return out, use


@pytest.mark.parametrize("label", [None, 7])
def test_generates_digits_in_turn_or_one(trained, data_dir, label):
    out, use = trained
    more = [] if label is None else ["--label", str(label)]
    assert conditional_gan.main([*use, "--generate", "5000", "--format", "npz", *more]) == 0
    pixels = torch.from_numpy(np.load(out / "generated.npz")["images"])
    assert pixels.shape == (5000, 28, 28)
    assert len(pixels.unique(dim=0)) > 4000
    pixels = pixels.flatten(1) / 255
    classes, _ = images.nearest_class(pixels, *images.load_images("mnist", data_dir))
    asked = torch.arange(5000) % 10 if label is None else torch.full((5000,), label)
    assert (classes == asked).float().mean() > 0.5  # 0.1 by chance


def test_pictures_have_the_labels_of_their_subfolders(tmp_path, monkeypatch, capsys):
    capped(monkeypatch, conditional_gan, 1)
    data = write_pictures(tmp_path / "data", ["Blue", "red"])
    use = ["--quiet", "--device", "cpu", "--out", str(tmp_path)]
    assert conditional_gan.main([*use, "--data", str(data), "--epochs", "1"]) == 0
    generator = torch.jit.load(tmp_path / "generator.pt")
    noise = torch.randn(40, 64, generator=common.stream("samples", 0))
    for label, one_hot in (("blue", [1.0, 0.0]), ("red", [0.0, 1.0]), ("1", [0.0, 1.0])):
        asked = ["--generate", "40", "--format", "npz", "--label", label]
        assert conditional_gan.main([*use, *asked]) == 0
        due = generator(torch.cat([noise, torch.tensor(one_hot).expand(40, 2)], dim=1))
        pixels = torch.from_numpy(np.load(tmp_path / "generated.npz")["images"])
        assert torch.allclose(pixels / 255, due.permute(0, 2, 3, 1), atol=0.003)
    capsys.readouterr()
    assert conditional_gan.main([*use, "--generate", "4", "--label", "green"]) == 2
    assert capsys.readouterr().err.endswith("--label can be Blue, red, not green\n")
