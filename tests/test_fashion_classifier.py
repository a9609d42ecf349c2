"""fashion_classifier.py: it learns categories, and predicts those of image files."""

import json
import os

import pytest
import torch
from conftest import arguments, own_data
from PIL import Image

import fashion_classifier as script
import images


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """The folder of a training that learned the tiny categories, and the options for it."""
    out = tmp_path_factory.mktemp("out")
    use = arguments(script, data_dir, out)
    assert script.main([*use, "--epochs", "30"]) == 0
    return out, use


def test_the_metrics_name_the_accuracy_of_each_category(trained):
    metrics = json.loads((trained[0] / "metrics.json").read_text())
    assert metrics["test_accuracy"] > 0.9
    assert set(metrics["test_accuracy_by_category"]) == set(script.CATEGORIES)
    assert metrics["verdict"].startswith("Good: ")


def test_keeps_the_epoch_with_the_lowest_validation_loss(data_dir):
    data, labels = own_data(script, data_dir)
    labels = labels[torch.randperm(len(labels))]  # there is nothing to learn
    training = script.train(data, labels, patience=3, progress=False)
    losses = [row.validation_loss for row in training.history]
    assert training.stopping.kept_epoch == 1 + losses.index(min(losses))
    assert len(losses) == training.stopping.kept_epoch + 3
    assert training.verdict.startswith("WARNING")


def test_predicts_image_files_light_or_dark(trained, data_dir, tmp_path, capsys):
    test, labels = images.load_images("fashion", data_dir, train=False)
    printed = []
    for rows in (test, 1 - test):
        files = [str(tmp_path / f"{i}.png") for i in range(10)]
        for file, row in zip(files, rows, strict=False):
            Image.fromarray((255 * row.view(28, 28)).round().byte().numpy()).save(file)
        assert script.main([*trained[1], "--predict", *files]) == 0
        printed.append(capsys.readouterr())
    header, *lines = printed[0].out.splitlines()
    assert header == "image,category,probability"
    right = [script.CATEGORIES[labels[i]] in line for i, line in enumerate(lines)]
    assert len(right) == 10
    assert sum(right) > 7
    assert printed[1].out == printed[0].out
    assert printed[0].err == ""
    assert printed[1].err.count("so it was inverted") == 10
    assert script.main([*trained[1], "--predict", __file__]) == 1
    assert "it is not an image" in capsys.readouterr().err


@pytest.mark.skipif("GAN_DATA_DIR" not in os.environ, reason="GAN_DATA_DIR names no real images")
def test_learns_real_clothes():
    folder = os.environ["GAN_DATA_DIR"]
    learned, test = (images.load_images("fashion", folder, train) for train in (True, False))
    classifier = script.train(*learned, epochs=30, progress=False).classifier
    assert (classifier(test[0]).argmax(dim=1) == test[1]).float().mean() > 0.7
