"""images.py: reading, augmenting, judging and arranging images."""

import numpy as np
import pytest
import torch
from conftest import arguments, new_training, write_images
from PIL import Image

import fashion_classifier
import images


def save(path, pixels):
    """Saves pixels (height, width) or (height, width, channels) in 0..255; returns the path."""
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return path


# --- Reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [False, True])
def test_missing_or_damaged_images_are_one_line(damaged, tmp_path, monkeypatch, capsys):
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://localhost:9/"])  # no server
    if damaged:
        file = write_images(tmp_path, "FashionMNIST") / "FashionMNIST/raw/train-images-idx3-ubyte"
        file.write_bytes(file.read_bytes()[:-100])
    assert fashion_classifier.main(arguments(fashion_classifier, tmp_path, tmp_path / "out")) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for hint in ("http://localhost:9/", "damaged", "--data-dir", "train-images-idx3-ubyte.gz"):
        assert hint in message


def test_an_image_is_shrunk_and_inverted_if_it_is_dark_on_white(tmp_path, capsys):
    pixels = np.zeros((56, 56))
    pixels[:, 12:44] = 200  # it touches the border
    light = images.read_image(save(tmp_path / "light.png", pixels)).view(28, 28)
    assert torch.allclose(light[:, 8:20], torch.tensor(200 / 255))
    assert light[:, :4].max() == 0
    assert capsys.readouterr().err == ""
    pixels[:, 12:44] = 100
    light = images.read_image(save(tmp_path / "light.png", pixels))
    dark = images.read_image(save(tmp_path / "dark.png", 255 - pixels))
    assert torch.allclose(light, dark)
    assert "dark.png is dark on white, so it was inverted" in capsys.readouterr().err


@pytest.mark.parametrize(("drawn", "hidden"), [(0, 0), (0, 255), (255, 0), (255, 255)])
def test_a_transparent_background_becomes_black(drawn, hidden, tmp_path):
    pixels = np.full((28, 28, 4), hidden)
    pixels[..., 3] = 0
    pixels[9:19, 9:19] = (drawn, drawn, drawn, 255)
    row = images.read_image(save(tmp_path / "square.png", pixels)).view(28, 28)
    assert (row[9:19, 9:19] == 1).all()
    assert row.sum() == 100


# --- Augmenting, judging and arranging ---------------------------------------------------------


def test_augmented_images_are_shifted_and_have_a_hole():
    white = torch.zeros(500, 28, 28)
    white[:, 2:-2, 2:-2] = 1  # as large as possible without being shifted out
    shown = images.augment(white.flatten(1)).view(-1, 28, 28)
    assert shown.amax(dim=(1, 2)).min() == 1
    assert len(shown.unique(dim=0)) > 450
    hidden = (white.sum() - shown.sum()).item() / 500
    assert 0.5 * 7**2 < hidden < 7**2


def test_classes_are_recognised_and_blends_are_not(data_dir):
    pytest.importorskip("torchvision")
    real, labels = images.load_images("mnist", data_dir)
    others, other_labels = images.load_images("mnist", data_dir, train=False)
    classes, clear = images.nearest_class(others, real, labels)
    assert classes.equal(other_labels)
    assert clear.all()
    _, clear = images.nearest_class((others + others.roll(1, dims=0)) / 2, real, labels)
    assert clear.float().mean() < 0.9


def test_missing_classes_are_named(data_dir):
    pytest.importorskip("torchvision")
    data, labels = images.load_images("mnist", data_dir)
    training = new_training(data, pixels=True)
    training.samples = data[labels < 7]
    images.check_classes(training, data, labels)
    assert not training.converged
    assert training.metrics["missing_values"] == [7, 8, 9]
    assert "missing or rare: 7, 8, 9" in training.verdict


def test_a_grid_shows_images_row_by_row():
    rows = torch.rand(6, 784)
    grid = images.image_grid(rows, 3)
    assert grid.shape == (56, 84)
    assert np.array_equal(grid[28:, 28:56], rows[4].view(28, 28))
