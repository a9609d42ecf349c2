"""images.py: reading, augmenting, judging and arranging images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import arguments, new_training, write_images
from PIL import Image

import dcgan
import fashion_classifier
import images


def save(path, pixels):
    """Saves pixels (height, width) or (height, width, channels) in 0..255; returns the path."""
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return path


def write_pictures(folder, colours, count=6):
    """Writes `count` pictures in a subfolder for each colour: a square somewhere, on white."""
    for colour in colours:
        (folder / colour).mkdir(parents=True)
        for i in range(count):
            picture = Image.new("RGB", (40, 30), "white")
            picture.paste(colour, (i + 5, 5, i + 25, 25))
            picture.save(folder / colour / f"{i}.png")
    return folder


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


BLUE_RED = Image.new("RGB", (40, 30), "blue")
BLUE_RED.paste("red", (20, 0, 40, 30))
MODES = "png 1, png L, png LA, png I;16, png P, png RGBA, gif P, webp RGBA, bmp RGB, jpg CMYK"


@pytest.mark.parametrize("kind", MODES.split(", "))
def test_pictures_of_any_format_and_mode(kind, tmp_path):
    suffix, mode = kind.split()
    picture = BLUE_RED if mode[0] in "PRC" else BLUE_RED.getchannel(0)  # black and white
    values = np.asarray(picture).astype(int)
    if mode == "I;16":
        picture = Image.fromarray((257 * values).astype(np.uint16))
    picture.convert(mode).save(tmp_path / f"picture.{suffix}")
    pixels = images.read_picture(tmp_path / f"picture.{suffix}", 30).astype(int)
    expected = values.reshape(30, 40, -1)[:, 5:-5]  # cut in the middle
    assert np.abs(pixels - expected)[:, [2, 9, -9, -2]].max() < 30  # some formats lose a little


@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_pictures_are_upright_and_on_white(suffix, tmp_path):
    path, exif, clear = tmp_path / f"clear.{suffix}", Image.Exif(), BLUE_RED.convert("RGBA")
    exif[0x0112] = 6  # the camera was turned
    BLUE_RED.save(tmp_path / "turned.png", exif=exif)
    pixels = images.read_picture(tmp_path / "turned.png", 28)
    assert pixels[[1, -2], 14].tolist() == [[0, 0, 255], [255, 0, 0]]
    clear.paste((0, 0, 0, 0), (0, 0, 20, 30))
    clear.save(path, lossless=True)
    assert (images.read_picture(path, 30)[:, :13] == 255).all()


def test_a_folder_of_pictures(tmp_path, capsys):
    write_pictures(tmp_path, ["black", "red"])
    write_pictures(tmp_path / ".hidden", ["black"])
    pictures, labels, names = images.load_folder(tmp_path, 32)
    assert (pictures.shape, names) == ((12, 3, 32, 32), ["black", "red"])
    assert pictures[:, 0].amin(dim=(1, 2)).round().equal(labels.float())
    assert capsys.readouterr().err == ""
    content = (tmp_path / "red" / "0.png").read_bytes()
    (tmp_path / "notes.txt").write_bytes(content)  # a picture, whatever its name
    (tmp_path / "red" / "0.png").write_bytes(content[:60])
    (tmp_path / "red" / "1.png").write_text("no picture")
    assert images.load_folder(tmp_path, 32)[2] == sorted(["black", "red", tmp_path.name])
    assert capsys.readouterr().err.count("2 files") == 1
    write_pictures(tmp_path / "grey", ["black", "grey"])
    assert images.load_folder(tmp_path / "grey", 28)[0].shape == (12, 1, 28, 28)


@pytest.mark.parametrize(
    ("folder", "hint"),
    [("few", "has 6 pictures; at least 10"), ("empty", "has 0 pictures"), ("none", "no folder")],
)
def test_too_few_pictures_are_one_line(folder, hint, tmp_path, capsys):
    write_pictures(tmp_path / "few", ["red"])
    (tmp_path / "empty").mkdir()
    assert dcgan.main(["--data", str(tmp_path / folder), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert hint in message
    assert message.count("\n") == 1


def test_cifar10_is_in_colour_and_has_names(monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    pixels = np.random.default_rng(0).integers(256, size=(20, 32, 32, 3), dtype=np.uint8)
    data = SimpleNamespace(data=pixels, targets=[0, 1] * 10, classes=["airplane", "car"])
    monkeypatch.setattr(datasets, "CIFAR10", lambda *_, **__: data)
    pictures, labels, names = images.load_dataset("cifar10", "")
    assert np.array_equal((255 * pictures[3]).round().numpy(), pixels[3].transpose(2, 0, 1))
    assert (labels.tolist(), names) == (data.targets, data.classes)


# --- Augmenting, judging and arranging ---------------------------------------------------------


def test_augmented_images_are_shifted_and_have_a_hole():
    white = torch.zeros(500, 28, 28)
    white[:, 2:-2, 2:-2] = 1  # as large as possible without being shifted out
    shown = images.augment(white.flatten(1)).view(-1, 28, 28)
    assert shown.amax(dim=(1, 2)).min() == 1
    assert len(shown.unique(dim=0)) > 450
    hidden = (white.sum() - shown.sum()).item() / 500
    assert 0.5 * 7**2 < hidden < 7**2


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 64), (3, 128)])
def test_augmented_pictures_keep_their_colours(channels, size):
    pictures = torch.rand(40, channels, 1, 1).clamp(min=0.1).expand(-1, -1, size, size)
    shown = images.augment(pictures)
    hidden = shown == 0
    assert hidden.eq(hidden[:, :1]).all()
    assert shown.where(~hidden, pictures).equal(pictures)
    assert 1 / 40 < hidden.float().mean() < 1 / 6  # a hole and margins


@pytest.mark.parametrize("copied", [0, 128, 1024])
def test_near_copies_are_counted(copied, tmp_path):
    data, fresh = torch.rand(2, 1024, 3, 28, 28)
    training = new_training(data.flatten(1))
    training.samples = fresh.clone()
    training.samples[:copied] = data[:copied].lerp(fresh[:copied], 0.1)
    images.check_copies(training, data, tmp_path)
    assert training.metrics["copies"] == copied / 1024
    assert training.converged == (copied < 100)
    with Image.open(tmp_path / "copies.png") as picture:  # each of 16 beside its nearest
        tiles = np.asarray(picture.convert("L"), dtype=float).reshape(4, 72, 8, 72).swapaxes(1, 2)
    assert (np.abs(tiles[:, ::2] - tiles[:, 1::2]).mean() < 20) == (copied > 0)


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
    training = new_training(data)
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
    pictures = torch.rand(5, 3, 32, 32)
    grid = images.image_grid(pictures, 3)
    assert grid.shape == (64, 96, 3)
    assert np.array_equal(grid[32:, 32:64], pictures[4].permute(1, 2, 0))
    assert not grid[32:, 64:].any()
