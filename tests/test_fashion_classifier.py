"""fashion_classifier.py, used from code and as a script."""

import json
import os
import re

import numpy as np
import pytest
import torch
from conftest import DEVICES, image_arguments, seeded, write_images
from PIL import Image

import fashion_classifier as script
import images

pytest.importorskip("torchvision")
FILES = {"classifier.pt", "classifier.pt2", "samples.png", "history.csv", "metrics.json"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), "FashionMNIST")


@pytest.fixture(scope="module")
def out(data_dir, tmp_path_factory):
    """Where a training, as a user would run it, has saved its results."""
    out = tmp_path_factory.mktemp("out")
    assert script.main([*image_arguments(data_dir, out), "--epochs", "20"]) == 0
    return out


@pytest.mark.parametrize("device", DEVICES)
def test_plain_images_are_soon_told_apart(data_dir, device):
    training = script.train(
        *images.load_images("fashion", data_dir), device=device, epochs=30, progress=False
    )
    test, labels = images.load_images("fashion", data_dir, train=False)
    assert (training.classifier(test).argmax(dim=1) == labels).float().mean() > 0.9


def test_stops_and_keeps_the_best_by_validation(data_dir):
    data, _ = images.load_images("fashion", data_dir)
    labels = torch.randint(10, (len(data),), generator=seeded(0))
    training = script.train(data, labels, patience=3, progress=False)  # nothing to be learned
    losses = [row.validation_loss for row in training.history]
    assert training.stopping.kept_epoch == 1 + losses.index(min(losses))
    assert len(losses) == training.stopping.kept_epoch + 3


def test_only_what_was_checked_and_found_right_is_good(data_dir):
    data, labels = images.load_images("fashion", data_dir)
    shuffled = labels[torch.randperm(len(labels), generator=seeded(0))]
    right, wrong = (
        script.train(data, given, epochs=30, progress=False) for given in (labels, shuffled)
    )
    assert right.converged
    said = r"Good: [\d.]+% of 10 validation images are classified correctly\."
    assert re.fullmatch(said, right.verdict)
    assert not wrong.converged
    assert wrong.verdict.startswith("WARNING")


def test_same_seed_same_training_other_seed_another(data_dir):
    data = images.load_images("fashion", data_dir)
    histories = [script.train(*data, seed=s, epochs=2, progress=False).history for s in (1, 1, 2)]
    assert histories[0] == histories[1] != histories[2]


@pytest.mark.parametrize(
    ("data", "labels", "complaint"),
    [
        (torch.rand(10, 784), torch.arange(9), "as many labels"),
        (torch.rand(10, 784), torch.rand(10), "integers"),
        (torch.rand(10, 784), torch.arange(10) + 1, "from 0 to 9"),
        (255 * torch.rand(10, 784), torch.arange(10), "0..1"),
        (torch.rand(10, 28, 28), torch.arange(10), "shape"),
        (torch.rand(10, 49), torch.arange(10), "784 columns"),
        (torch.rand(10, 785), torch.arange(10), "28 by 28 pixels, not 785"),
        (torch.rand(1, 784), torch.arange(1), "at least two"),
    ],
)
def test_bad_data_are_refused(data, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        script.train(data, labels, progress=False)


class TestCommandLine:
    def test_saves_everything(self, out):
        assert {file.name for file in out.glob("[!.]*")} == FILES
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["test_accuracy"] > 0.5
        assert set(metrics["test_accuracy_by_category"]) == set(script.CATEGORIES)

    def test_saved_classifiers_load_in_plain_torch_and_agree(self, out):
        test = torch.rand(7, 784)
        saved = torch.jit.load(out / "classifier.pt", map_location="cpu")(test)
        assert saved.shape == (7, 10)
        program = torch.export.load(out / "classifier.pt2").module()
        assert torch.allclose(program(test), saved, atol=1e-4)

    def test_predicts_image_files(self, data_dir, out, tmp_path, capsys):
        test, labels = images.load_images("fashion", data_dir, train=False)
        files = []
        for i in range(10):
            pixels = (255 * test[i]).byte().view(28, 28).numpy()
            files.append(str(tmp_path / f"{i}.png"))
            Image.fromarray(pixels).resize((56, 56)).save(files[-1])
        assert script.main([*image_arguments(data_dir, out), "--predict", *files]) == 0
        header, *rows = capsys.readouterr().out.splitlines()
        assert header == "image,category,probability"
        right = [script.CATEGORIES[labels[i]] == row.split(",")[1] for i, row in enumerate(rows)]
        assert len(rows) == 10
        assert sum(right) > 5

    def test_images_dark_on_white_are_turned_round(self, data_dir, out, tmp_path, capsys):
        test, _ = images.load_images("fashion", data_dir, train=False)
        said = []
        for rows in (test, 1 - test):
            for i, row in enumerate(rows[:10]):
                pixels = (255 * row.view(28, 28)).round().byte().numpy()
                Image.fromarray(pixels).save(tmp_path / f"{i}.png")
            files = [str(tmp_path / f"{i}.png") for i in range(10)]
            assert script.main([*image_arguments(data_dir, out), "--predict", *files]) == 0
            said.append(capsys.readouterr())
        light, dark = said
        assert dark.out == light.out
        assert light.err == ""
        assert [line.split()[0] for line in dark.err.splitlines()] == files
        assert "inverted" in dark.err

    def test_what_is_no_image_is_one_clear_line(self, data_dir, out, capsys):
        assert script.main([*image_arguments(data_dir, out), "--predict", __file__]) == 1
        assert "it is not an image" in capsys.readouterr().err


@pytest.mark.skipif("GAN_DATA_DIR" not in os.environ, reason="GAN_DATA_DIR names no real images")
def test_learns_real_clothes():
    learned, test = (
        images.load_images("fashion", os.environ["GAN_DATA_DIR"], train) for train in (True, False)
    )
    classifier = script.train(*learned, epochs=15, progress=False).classifier
    assert (classifier(test[0]).argmax(dim=1) == test[1]).float().mean() > 0.7


class TestImagesOfOnesOwn:
    def test_clothes_that_touch_the_border_stay_as_they_are(self, tmp_path, capsys):
        pixels = np.zeros((28, 28), dtype=np.uint8)
        pixels[:, 6:22] = 255  # trousers, from top to bottom
        Image.fromarray(pixels).save(tmp_path / "trousers.png")
        read = images.read_image(tmp_path / "trousers.png")
        assert (read.view(28, 28).numpy() == pixels / 255).all()
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(("drawn", "hidden"), [(0, 0), (0, 255), (255, 0), (255, 255)])
    def test_on_a_transparent_ground_become_light_on_black(self, drawn, hidden, tmp_path):
        pixels = np.full((28, 28, 4), hidden, dtype=np.uint8)
        pixels[..., 3] = 0
        pixels[9:19, 9:19] = (drawn, drawn, drawn, 255)
        Image.fromarray(pixels).save(tmp_path / "square.png")
        read = images.read_image(tmp_path / "square.png").view(28, 28)
        assert (read[9:19, 9:19] == 1).all()
        assert read.sum() == 100

    def test_on_a_transparent_colour_of_a_palette(self, tmp_path):
        image = Image.new("P", (28, 28), 0)
        image.putpalette([0, 0, 0, 40, 0, 0])  # black, and dark red
        image.paste(1, (9, 9, 19, 19))
        image.save(tmp_path / "square.png", transparency=0)
        read = images.read_image(tmp_path / "square.png").view(28, 28)
        assert (read[9:19, 9:19] > 0.9).all()
        assert read[:9].max() == 0


class TestImagesFromDisk:
    def test_are_read_by_torchvision(self, data_dir):
        found, labels = images.load_images("fashion", data_dir)
        assert found.shape == (60, 784)
        assert found.min() >= 0
        assert found.max() == 1
        assert labels.tolist() == list(range(10)) * 6

    def test_absent_and_no_connection(self, tmp_path, monkeypatch, capsys):
        from torchvision.datasets import FashionMNIST

        monkeypatch.setattr(
            FashionMNIST, "mirrors", ["http://localhost:9/"]
        )  # nobody listens there
        assert script.main(image_arguments(tmp_path, tmp_path / "out")) == 1
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        for hint in ("http://localhost:9/", "--data-dir", "train-images-idx3-ubyte.gz"):
            assert hint in said.err

    def test_damaged(self, tmp_path, capsys):
        folder = write_images(tmp_path, "FashionMNIST")
        file = folder / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
        file.write_bytes(file.read_bytes()[:-100])
        assert script.main(image_arguments(folder, tmp_path / "out")) == 1
        assert "damaged" in capsys.readouterr().err
