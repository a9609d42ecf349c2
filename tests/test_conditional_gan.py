"""conditional_gan.py, used from code and as a script."""

import numpy as np
import pytest
import torch
from conftest import DEVICES, capped, image_arguments, write_images

import common
import conditional_gan as script
import images

pytest.importorskip("torchvision")
FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), "MNIST")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    capped(monkeypatch, script, 10)
    monkeypatch.setattr(script, "EMA_DECAY", 0.95)


def labelled(data_dir):
    data, labels = images.load_images("mnist", data_dir)
    return torch.cat([data, common.one_hot_encode(labels, 10)], dim=1)


def test_real_samples_are_images_with_their_labels(data_dir):
    rows = script.real_samples(200, data_dir=data_dir)
    known = labelled(data_dir)
    assert rows.shape == (200, 794)
    assert torch.cdist(rows, known).min(dim=1).values.max() < 1e-2


@pytest.mark.parametrize("device", DEVICES)
def test_it_writes_what_is_asked_for(data_dir, device):
    """Of the even classes: their bars lie four pixels apart, and are shown moved by up to two."""
    data, classes = images.load_images("mnist", data_dir)
    even = classes % 2 == 0
    training = script.train(labelled(data_dir)[even], device=device, epochs=30, progress=False)
    labels = 2 * (torch.arange(200) % 5)
    written = training.generator(script.generator_input(labels))
    assert written.shape == (200, 784)
    found, _ = images.nearest_class(written, data[even], classes[even])
    assert (found == labels).float().mean() > 0.95


def test_command_line(data_dir, tmp_path):
    use = image_arguments(data_dir, tmp_path)
    assert script.main([*use, "--epochs", "1", "--animate"]) == 0
    assert {file.name for file in tmp_path.iterdir()} >= FILES | {"training.gif"}
    written = torch.jit.load(tmp_path / "generator.pt")(script.generator_input(torch.arange(5)))
    assert written.shape == (5, 784)
    assert script.main([*use, "--interpolate", "6"]) == 0
    assert (tmp_path / "interpolation.png").exists()


@pytest.mark.parametrize(
    ("more", "due"), [([], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]), (["--label", "7"], [7] * 12)]
)
def test_generates_digits_in_turn_or_one(data_dir, tmp_path, more, due):
    """Of a generator that writes its label in the first pixels."""
    model = torch.nn.Linear(script.LATENT_DIM + 10, 784, bias=False)
    model.weight.data = torch.eye(784, script.LATENT_DIM + 10).roll(-script.LATENT_DIM, 0)
    torch.jit.trace(model, torch.zeros(1, script.LATENT_DIM + 10)).save(tmp_path / "generator.pt")
    use = [*image_arguments(data_dir, tmp_path), "--generate", "12", "--format", "npz", *more]
    assert script.main(use) == 0
    array = np.load(tmp_path / "generated.npz")["images"]
    assert array.reshape(12, -1)[:, :10].argmax(axis=1).tolist() == due


def test_an_unknown_label_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main(["--generate", "1", "--label", "10", "--out", str(tmp_path)])
    assert "--label" in capsys.readouterr().err
