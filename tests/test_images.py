"""images.py, and the scripts that learn pictures: of all sizes, with labels, in two processes."""

import os
import socket
import subprocess
import sys
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import ROOT, capped, new_training, own_data, write_images
from PIL import Image

import common
import conditional_gan
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
def test_missing_or_damaged_images_are_one_line(damaged, run, tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://localhost:9/"])  # no server
    if damaged:
        file = write_images(tmp_path, "FashionMNIST") / "FashionMNIST/raw/train-images-idx3-ubyte"
        file.write_bytes(file.read_bytes()[:-100])
    message = run(fashion_classifier, "--data-dir", tmp_path, status=1).err
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
def test_too_few_pictures_are_one_line(folder, hint, run, tmp_path):
    write_pictures(tmp_path / "few", ["red"])
    (tmp_path / "empty").mkdir()
    assert hint in run(dcgan, "--data", tmp_path / folder, status=2).err


def test_cifar10_is_in_colour_and_has_names(monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    pixels = np.random.default_rng(0).integers(256, size=(20, 32, 32, 3), dtype=np.uint8)
    data = SimpleNamespace(data=pixels, targets=[0, 1] * 10, classes=["airplane", "car"])
    monkeypatch.setattr(datasets, "CIFAR10", lambda *_, **__: data)
    pictures, labels, names = images.load_dataset("cifar10", "")
    assert np.array_equal((255 * pictures[3]).round().numpy(), pixels[3].transpose(2, 0, 1))
    assert (labels.tolist(), names) == (data.targets, data.classes)


# --- Augmenting and judging --------------------------------------------------------------------


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


@pytest.mark.parametrize("copied", [0, 64, 512])
def test_near_copies_are_counted(copied, tmp_path):
    data, fresh = torch.rand(2, 512, 3, 28, 28)
    training = new_training(data.flatten(1))
    training.samples = fresh.clone()
    training.samples[:copied] = data[:copied].lerp(fresh[:copied], 0.1)
    images.check_copies(training, data, tmp_path)
    assert training.metrics["copies"] == copied / 512
    assert training.converged == (copied == 0)
    with Image.open(tmp_path / "copies.png") as picture:  # each of 16 beside its nearest
        tiles = np.asarray(picture.convert("L"), dtype=float).reshape(4, 72, 8, 72).swapaxes(1, 2)
    assert (np.abs(tiles[:, ::2] - tiles[:, 1::2]).mean() < 20) == (copied > 0)


def test_classes_are_recognised_and_missing_ones_named(data_dir):
    pytest.importorskip("torchvision")
    real, labels = images.load_images("mnist", data_dir)
    others, other_labels = images.load_images("mnist", data_dir, train=False)
    classes, clear = images.nearest_class(others, real, labels)
    assert classes.equal(other_labels)
    assert clear.all()
    _, clear = images.nearest_class((others + others.roll(1, dims=0)) / 2, real, labels)
    assert clear.float().mean() < 0.9
    training = new_training(real)
    training.samples = real[labels < 7]
    images.check_classes(training, real, labels)
    assert not training.converged
    assert training.metrics["missing_values"] == [7, 8, 9]
    assert "missing or rare: 7, 8, 9" in training.verdict


# --- Learning pictures -------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "channels"), [(28, 3), (64, 3), (128, 1)])
def test_pictures_of_all_sizes(size, channels, run, tmp_path, monkeypatch):
    capped(monkeypatch, dcgan, 1, export=size == 28)
    data = write_pictures(tmp_path / "data", ["black", "red" if channels == 3 else "grey"])
    run(dcgan, "--data", data, "--size", size, "--epochs", 1, "--animate")
    assert {path.name for path in tmp_path.glob("*.[pg][ni][gf]")} == {
        "copies.png", "samples.png", "training.gif"
    }  # fmt: skip
    generator, noise = torch.jit.load(tmp_path / "generator.pt"), torch.randn(3, 64)
    pictures = generator(noise)
    assert pictures.shape == (3, channels, size, size)
    assert 0 <= pictures.min() < pictures.max() <= 1
    if size == 28:
        exported = torch.export.load(tmp_path / "generator.pt2").module()
        assert torch.allclose(exported(noise), pictures, atol=1e-5)
    run(dcgan, "--generate", 3, "--interpolate", 4)
    with Image.open(tmp_path / "generated" / "00002.png") as picture:
        assert (picture.size, picture.mode) == ((size, size), "RGB" if channels == 3 else "L")
    assert (tmp_path / "interpolation.png").exists()


def test_pictures_have_the_labels_of_their_subfolders(run, tmp_path, monkeypatch):
    capped(monkeypatch, conditional_gan, 1)
    data = write_pictures(tmp_path / "data", ["Blue", "red"])
    run(conditional_gan, "--data", data, "--epochs", 1)
    generator = torch.jit.load(tmp_path / "generator.pt")
    noise = torch.randn(40, 64, generator=common.stream("samples", 0))
    for label, one_hot in (("blue", [1.0, 0.0]), ("red", [0.0, 1.0]), ("1", [0.0, 1.0])):
        run(conditional_gan, "--generate", 40, "--format", "npz", "--label", label)
        due = generator(torch.cat([noise, torch.tensor(one_hot).expand(40, 2)], dim=1))
        pixels = torch.from_numpy(np.load(tmp_path / "generated.npz")["images"])
        assert torch.allclose(pixels / 255, due.permute(0, 2, 3, 1), atol=0.003)
    message = run(conditional_gan, "--generate", 4, "--label", "green", status=2).err
    assert message.endswith("--label can be Blue, red, not green\n")


def test_real_samples_of_digits_have_their_labels(data_dir):
    (rows,) = own_data(conditional_gan, data_dir)
    data, labels = images.load_images("mnist", data_dir)
    pixels, label = rows.split([784, 10], dim=1)
    distance, nearest = torch.cdist(pixels, data).min(dim=1)
    assert distance.max() < 1e-2
    assert label.argmax(dim=1).equal(labels[nearest])


PROCESS = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import common, dcgan, images, torch
data = torch.rand(60, 1, 28, 28), torch.arange(60) % 2, ["a", "b"]
images.load_dataset = lambda *_: data
dcgan.BATCHES_PER_EPOCH, dcgan.WIDTH = 4, 8
common.save = lambda *_, **__: None  # it takes seconds
networks, build, evaluate = [], dcgan.build_generator, common.Training.evaluate
dcgan.build_generator = lambda shape: networks.append(build(shape)) or networks[-1]

def evaluate_and_signal(training, *given):
    evaluate(training, *given)
    if len(training.history) == 2 and torch.distributed.get_rank():
        images.SIGNALS.append(2)

common.Training.evaluate = evaluate_and_signal
status = dcgan.main(["--epochs", "3", "--device", "cpu", "--out", "out"])
print("status", status, networks[0][0].weight.tolist())
"""


def test_two_processes_learn_the_same_and_stop_together(tmp_path):
    with socket.create_server(("localhost", 0)) as server:  # a free port
        use = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "OMP_NUM_THREADS": "1"}
        use |= {"MASTER_PORT": str(server.getsockname()[1])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS], stdout=-1, stderr=-1, text=True, cwd=tmp_path,
            env=os.environ | use | {"RANK": rank, "LOCAL_RANK": rank},
        ) for rank in "01"
    ]  # fmt: skip
    (printed, error), (printed_too, _) = [each.communicate(timeout=120) for each in started]
    assert "Trained on 60 samples for 2 epochs, interrupted" in printed, error
    assert "Grad strides" not in error
    assert (tmp_path / "out" / "samples.png").exists()
    assert printed.partition("status 130 ")[2] == printed_too.removeprefix("status 0 ") != ""


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cpu", ["gloo", "cpu"]), ("cuda", ["nccl", "cuda:1"]), ("cuda:1", ["nccl", "cuda:2"])],
)
def test_each_process_has_its_own_gpu(device, expected, monkeypatch):
    backends: list[str] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(common, "choose_device", torch.device)
    monkeypatch.setattr("torch.distributed.init_process_group", backends.append)
    for name in ("torch.cuda.set_device", "atexit.register", "signal.signal"):
        monkeypatch.setattr(name, lambda *_: None)
    options = Namespace(device=device, resume=False)
    images.join_processes(options)
    assert [*backends, options.device] == expected
