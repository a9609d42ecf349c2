"""digits_gan.py, used from code and as a script."""

import json

import numpy as np
import pytest
import torch
from conftest import DEVICES, capped, image_arguments, seeded, write_images

import digits_gan as script
import images

pytest.importorskip("torchvision")
FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), "MNIST")


@pytest.fixture(scope="module")
def out(data_dir, tmp_path_factory):
    """Where a short training, as a user would run it, has saved its results."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        capped(patch, script, 20)
        assert script.main([*image_arguments(data_dir, out), "--epochs", "1"]) == 0
    return out


def test_real_samples_are_images_drawn_by_lot(data_dir):
    drawn = script.real_samples(500, seeded(0), data_dir=data_dir)
    assert drawn.shape == (500, 784)
    assert len(drawn.unique(dim=0)) == 60


@pytest.mark.parametrize("device", DEVICES)
def test_a_short_training_brings_the_images_near(data_dir, device, monkeypatch):
    capped(monkeypatch, script, 10)
    monkeypatch.setattr(script, "EMA_DECAY", 0.95)  # over few steps, as they are few
    data, _ = images.load_images("mnist", data_dir)
    training = script.train(data, device=device, epochs=6, progress=False)
    assert training.history[-1].distance < 0.7 * training.history[0].distance
    generated = training.generator(torch.randn(1, script.LATENT_DIM))
    assert generated.shape == (1, 784)
    assert 0 <= generated.min() <= generated.max() <= 1


def test_same_seed_same_training_other_seed_another(data_dir, monkeypatch):
    capped(monkeypatch, script)
    data, _ = images.load_images("mnist", data_dir)
    histories = [script.train(data, seed=s, epochs=2, progress=False).history for s in (1, 1, 2)]
    assert histories[0] == histories[1] != histories[2]


def test_pixels_out_of_range_are_refused():
    with pytest.raises(ValueError, match="0..1"):
        script.train(255 * torch.rand(20, 784), progress=False)


def test_images_are_shown_a_little_moved_and_with_a_square_cut_out():
    white = torch.zeros(500, 28, 28)
    white[:, 2:-2, 2:-2] = 1  # as wide as they can be without being moved out
    shown = images.augment(white.flatten(1)).view(-1, 28, 28)
    assert shown.amax(dim=(1, 2)).min() == 1
    assert len(shown.unique(dim=0)) > 450
    gone = (white.sum() - shown.sum()) / 500
    assert 0.5 * 7**2 < gone < 7**2


class TestCommandLine:
    def test_saves_everything_and_tells_the_truth(self, out):
        assert {file.name for file in out.iterdir()} >= FILES
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["converged"] is False
        assert metrics["verdict"].startswith("WARNING")
        assert metrics["ratio"] > 1.6

    def test_saved_generators_load_in_plain_torch_and_agree(self, out):
        latents = torch.randn(5, script.LATENT_DIM)
        written = torch.jit.load(out / "generator.pt", map_location="cpu")(latents)
        assert written.shape == (5, 784)
        program = torch.export.load(out / "generator.pt2").module()
        assert torch.allclose(program(latents), written, atol=1e-4)

    def test_generates_png_files(self, data_dir, out):
        from PIL import Image

        assert script.main([*image_arguments(data_dir, out), "--generate", "12"]) == 0
        files = sorted((out / "generated").iterdir())
        assert [file.name for file in files][::11] == ["00000.png", "00011.png"]
        with Image.open(files[0]) as image:
            assert image.size == (28, 28)
            assert image.mode == "L"

    def test_generates_one_array(self, data_dir, out):
        more = ["--generate", "5000", "--format", "npz"]
        assert script.main([*image_arguments(data_dir, out), *more]) == 0
        array = np.load(out / "generated.npz")["images"]
        assert array.shape == (5000, 28, 28)
        assert array.dtype == np.uint8
        assert len(np.unique(array.reshape(5000, -1), axis=0)) > 4000

    def test_walks_between_images(self, data_dir, out):
        assert script.main([*image_arguments(data_dir, out), "--interpolate", "6"]) == 0
        assert (out / "interpolation.png").read_bytes().startswith(b"\x89PNG")


def test_classes_are_recognised_and_blends_are_not(tmp_path):
    folder = write_images(tmp_path, "MNIST", train=300, test=100)
    known, labels = images.load_images("mnist", folder)
    others, other_labels = images.load_images("mnist", folder, train=False)
    classes, plain = images.nearest_class(others, known, labels)
    assert (classes == other_labels).all()
    assert plain.all()
    _, plain = images.nearest_class(known, known, labels, skip=1)
    assert plain.all()
    _, plain = images.nearest_class((others + others.roll(1, dims=0)) / 2, known, labels)
    assert plain.float().mean() < 0.85


def test_classes_left_out_are_named(data_dir, monkeypatch):
    capped(monkeypatch, script)
    data, labels = images.load_images("mnist", data_dir)
    training = script.train(data, epochs=1, progress=False)
    training.samples = data[labels < 7]
    images.check_classes(training, data, labels)
    assert not training.converged
    assert training.metrics["missing_values"] == [7, 8, 9]
    assert "missing or rare: 7, 8, 9" in training.verdict
