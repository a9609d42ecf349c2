"""images.py, and the scripts that learn pictures: of all sizes, with labels, in two processes."""

import os
import signal
import socket
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import (
    IMAGE_SCRIPTS,
    ROOT,
    can_send_ctrl_c,
    contents,
    new_training,
    own_data,
    shorten,
    signal_after,
    wait_for_an_epoch,
    write_images,
)
from PIL import Image
from torch import nn

import cli
import conditional_gan
import cycle_gan
import dcgan
import dcgan_multigpu
import digits_gan
import fashion_classifier
import images
from common import InputError

# --- Reading -----------------------------------------------------------------------------------


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
    light = images.read_grey(save(tmp_path / "light.png", pixels))[0, 0]
    assert torch.allclose(light[:, 8:20], torch.tensor(200 / 255))
    assert light[:, :4].max() == 0
    assert capsys.readouterr().err == ""
    pixels[:, 12:44] = 100
    light = images.read_grey(save(tmp_path / "light.png", pixels))
    dark = images.read_grey(save(tmp_path / "dark.png", 255 - pixels))
    assert torch.allclose(light, dark)
    assert "dark.png is dark on white, so it was inverted" in capsys.readouterr().err


@pytest.mark.parametrize(("drawn", "hidden"), [(0, 0), (0, 255), (255, 0), (255, 255)])
def test_a_transparent_background_becomes_black(drawn, hidden, tmp_path):
    pixels = np.full((28, 28, 4), hidden)
    pixels[..., 3] = 0
    pixels[9:19, 9:19] = (drawn, drawn, drawn, 255)
    picture = images.read_grey(save(tmp_path / "square.png", pixels))[0, 0]
    assert (picture[9:19, 9:19] == 1).all()
    assert picture.sum() == 100


BLUE_RED = Image.new("RGB", (40, 30), "blue")
BLUE_RED.paste("red", (20, 0, 40, 30))
MODES = "png 1, png L, png LA, png I;16, png P, png RGBA, gif P, webp RGBA, bmp RGB, jpg CMYK"


@pytest.mark.parametrize("suffix_and_mode", MODES.split(", "))
def test_pictures_of_any_format_and_mode(suffix_and_mode, tmp_path):
    suffix, mode = suffix_and_mode.split()
    in_colour = mode[0] in "PRC"
    picture = BLUE_RED if in_colour else BLUE_RED.getchannel(0)  # black and white
    values = np.asarray(picture).astype(int)
    if mode == "I;16":
        picture = Image.fromarray((257 * values).astype(np.uint16))
    picture.convert(mode).save(tmp_path / f"picture.{suffix}")
    pixels = images.read_picture(tmp_path / f"picture.{suffix}", 30).astype(int)
    expected = values.reshape(30, 40, -1)[:, 5:-5]  # cut in the middle
    assert np.abs(pixels - expected)[:, [2, 9, -9, -2]].max() < 30  # some formats lose a little


@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_pictures_are_upright_and_on_white(suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    BLUE_RED.save(tmp_path / "turned.png", exif=exif)
    pixels = images.read_picture(tmp_path / "turned.png", 28)
    assert pixels[[1, -2], 14].tolist() == [[0, 0, 255], [255, 0, 0]]
    clear = BLUE_RED.convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 20, 30))
    clear.save(tmp_path / f"clear.{suffix}", lossless=True)
    assert (images.read_picture(tmp_path / f"clear.{suffix}", 30)[:, :13] == 255).all()


def test_a_large_photo_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    BLUE_RED.resize((2000, 1500)).save(tmp_path / "photo.jpg", exif=exif)
    pixels = images.read_picture(tmp_path / "photo.jpg", 32).astype(int)
    assert np.abs(pixels[2:14] - [0, 0, 255]).max() < 30
    assert np.abs(pixels[18:30] - [255, 0, 0]).max() < 30


def test_pictures_are_read_with_a_bar_unless_it_should_be_quiet(tmp_path, capsys):
    write_pictures(tmp_path, ["black", "red"])
    dcgan.real_samples(5, folder=tmp_path, size=28)
    assert "/12 [" in capsys.readouterr().err
    dcgan.real_samples(5, folder=tmp_path, size=28, progress=False)
    assert capsys.readouterr().err == ""


def test_a_folder_of_pictures(tmp_path, capsys):
    write_pictures(tmp_path, ["black", "red"])
    write_pictures(tmp_path / ".hidden", ["black"])
    pictures, labels, names = images.load_folder(tmp_path, 32, progress=False)
    assert (pictures.shape, names) == ((12, 3, 32, 32), ["black", "red"])
    assert pictures[:, 0].amin(dim=(1, 2)).round().equal(labels.float())
    assert capsys.readouterr().err == ""
    grey, _, _ = images.load_folder(write_pictures(tmp_path / "grey", ["black", "grey"]), 28)
    assert grey.shape == (12, 1, 28, 28)


def test_files_that_are_no_pictures_are_counted_and_skipped(tmp_path, capsys):
    write_pictures(tmp_path, ["black", "red"])
    content = (tmp_path / "red" / "0.png").read_bytes()
    (tmp_path / "notes.txt").write_bytes(content)  # a picture, whatever its name
    (tmp_path / "red" / "0.png").write_bytes(content[:60])
    (tmp_path / "red" / "1.png").write_text("no picture")
    names = images.load_folder(tmp_path, 32, progress=False).names
    assert names == sorted(["black", "red", tmp_path.name])
    message = "Skipped 2 files, red/0.png, red/1.png: damaged, or not"
    assert capsys.readouterr().err.startswith(message)


def test_pictures_without_a_label_are_counted_and_left_out(tmp_path, capsys):
    write_pictures(tmp_path, ["black", "red"])
    (tmp_path / "red" / "0.png").rename(tmp_path / "0.png")
    labelled = images.load_folder(tmp_path, 32, labelled=True, progress=False)
    assert labelled.labels.tolist() == [0] * 6 + [1] * 5
    message = "Left out 1 file, 0.png: in no subfolder, so no label\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("script", "folder", "hint"),
    [
        (dcgan, "few", "has 6 pictures; at least 10"),
        (dcgan, "empty", "has 0 pictures"),
        (dcgan, "none", "no folder"),
        (dcgan, "photos", "skipped 1 file, photo.heic"),
        (conditional_gan, "few", "in 1 of its subfolders"),
    ],
)
def test_too_few_pictures_are_one_line(script, folder, hint, run, tmp_path):
    write_pictures(tmp_path / "few", ["red"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "photo.heic").write_text("no format that is known")
    assert hint in run(script, "--data", tmp_path / folder, status=2).err


def test_cifar10_is_in_colour_and_has_names(monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    pixels = np.random.default_rng(0).integers(256, size=(20, 32, 32, 3), dtype=np.uint8)
    data = SimpleNamespace(data=pixels, targets=[0, 1] * 10, classes=["airplane", "car"])
    monkeypatch.setattr(datasets, "CIFAR10", lambda *_, **__: data)
    pictures, labels, names = images.load_dataset("cifar10", "")
    assert np.array_equal((255 * pictures[3]).round().numpy(), pixels[3].transpose(2, 0, 1))
    assert (labels.tolist(), names) == (data.targets, data.classes)


PICTURES = torch.rand(10, 1, 28, 28)
LABELS = torch.arange(10)
WRONG_PICTURES = [
    (digits_gan, torch.rand(9, 784)),
    (digits_gan, torch.rand(9, 3, 28, 28)),
    (dcgan, torch.rand(9, 4, 32, 32)),
    (dcgan, torch.rand(9, 3, 30, 30)),
    (dcgan, torch.rand(9, 3, 32, 64)),
    (dcgan, torch.rand(0, 1, 28, 28)),
    (dcgan, [["a"]]),
    (cycle_gan, PICTURES),
]


@pytest.mark.parametrize(("script", "data"), WRONG_PICTURES)
def test_other_shapes_are_refused(script, data):
    with pytest.raises(InputError, match="shape|numbers"):
        script.train(data, epochs=1, progress=False)


@pytest.mark.parametrize("wrong", [2.0, -1.0, float("nan")])
def test_pictures_beyond_black_or_white_are_refused(wrong):
    with pytest.raises(InputError, match="^pictures must lie in 0..1"):
        digits_gan.train(wrong + PICTURES, epochs=1, progress=False)


@pytest.mark.parametrize("script", [conditional_gan, fashion_classifier])
@pytest.mark.parametrize("labels", [LABELS[1:], LABELS + 0.5, LABELS + 1, LABELS - 1])
def test_other_labels_are_refused(script, labels):
    with pytest.raises(InputError, match="^labels must be integers from 0 to 9"):
        script.train(PICTURES, labels, epochs=1, progress=False)


# --- Augmenting and judging --------------------------------------------------------------------


def test_augmented_pictures_are_shifted_and_have_a_hole():
    white = torch.zeros(500, 1, 28, 28)
    white[..., 2:-2, 2:-2] = 1  # as large as possible without being shifted out
    shown = images.augment(white)
    assert shown.amax(dim=(1, 2, 3)).min() == 1
    assert len(shown.unique(dim=0)) > 450
    hidden = (shown == white.mean()).float().mean().item() * 28**2
    assert 0.5 * 7**2 < hidden < 7**2


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 64), (3, 128)])
def test_augmented_pictures_keep_their_colours_but_for_a_hole(channels, size):
    pictures = torch.rand(40, channels, 1, 1).expand(-1, -1, size, size)
    shown = images.augment(pictures)
    hidden = (shown != pictures).all(dim=1)
    mean = pictures.mean(dim=(0, 2, 3))
    assert torch.allclose(shown.permute(0, 2, 3, 1)[hidden], mean)
    assert shown.where(hidden.unsqueeze(1), pictures).equal(shown)
    assert 1 / 40 < hidden.float().mean() < 1 / 10


@pytest.mark.parametrize("copied", [0, 64, 512])
def test_near_copies_are_counted(copied):
    data, fresh = torch.rand(2, 512, 3, 28, 28)
    training = new_training(data, features=images.Features(data))
    training.samples = fresh.clone()
    training.samples[:copied] = data[:copied].lerp(fresh[:copied], 0.1)
    shown = images.check_copies(training).axes[0].images[0].get_array()
    samples, nearest = np.split(np.asarray(shown), 2)
    assert training.metrics["copies"] == copied / 512
    assert training.converged == (copied == 0)
    assert np.array_equal(samples, images.picture_grid(training.samples[:12], columns=12))
    assert (np.abs(samples - nearest).mean() < 0.1) == (copied > 0)


def test_classes_are_recognised_and_missing_ones_named(data_dir):
    pytest.importorskip("torchvision")
    labelled = images.load_dataset("mnist", data_dir)
    pictures, labels, _ = labelled
    others, other_labels, _ = images.load_dataset("mnist", data_dir, train=False)
    classes, clear = images.nearest_class(others, pictures, labels)
    assert classes.equal(other_labels)
    assert clear.all()
    _, clear = images.nearest_class((others + others.roll(1, dims=0)) / 2, pictures, labels)
    assert clear.float().mean() < 0.9
    training = new_training(pictures, features=images.Features(pictures))
    images.check_classes(training, pictures[labels < 7], labelled)
    assert not training.converged
    assert "too rare: 7, 8, 9." in training.verdict


def test_a_class_that_is_seldom_clear_is_not_missing():
    """Pictures of the classes b and c are alike, but b is more frequent."""
    labels = torch.tensor([0, 1, 1, 1, 1, 2] * 100)
    brightness = (labels > 0).float().reshape(-1, 1, 1, 1)

    def draw():
        return ((brightness + torch.rand(600, 1, 28, 28)) / 2).clamp(0, 1)

    fresh = draw()
    labelled = images.Labelled(draw(), labels, ["a", "b", "c"])
    training = new_training(labelled.pictures, features=images.Features(labelled.pictures))
    images.check_classes(training, fresh, labelled)
    assert training.metrics["missing_values"] == []
    images.check_classes(training, fresh[labels > 0], labelled)
    assert training.metrics["missing_values"] == ["a"]


# --- Learning pictures -------------------------------------------------------------------------


def test_real_samples_of_digits_are_different_and_have_their_labels(data_dir):
    pytest.importorskip("torchvision")
    pictures, labels = conditional_gan.real_samples(1000, data_dir=data_dir)
    known, known_labels, _ = images.load_dataset("mnist", data_dir)
    distance, nearest = torch.cdist(pictures.flatten(1), known.flatten(1)).min(dim=1)
    assert sorted(nearest.tolist()) == list(range(160))  # each of them once
    assert distance.max() < 1e-2
    assert labels.equal(known_labels[nearest])


def test_cycle_gan_learns_from_digits_and_outlines_of_others(data_dir):
    pytest.importorskip("torchvision")
    digits, outlines = cycle_gan.real_samples(60, data_dir=data_dir).split(1, dim=1)
    known = images.load_dataset("mnist", data_dir).pictures
    padded = nn.functional.pad(known[:, 0], (1, 1, 1, 1))
    largest = padded.unfold(1, 3, 1).unfold(2, 3, 1).amax(dim=(3, 4))  # in windows of 3 by 3
    to_digits = torch.cdist(digits.flatten(1), known.flatten(1)).min(dim=1)
    known_outlines = largest - known[:, 0]
    to_outlines = torch.cdist(outlines.flatten(1), known_outlines.flatten(1)).min(dim=1)
    assert max(to_digits.values.max(), to_outlines.values.max()) < 1e-2
    assert not set(to_digits.indices.tolist()) & set(to_outlines.indices.tolist())


@pytest.mark.parametrize("script", IMAGE_SCRIPTS)
def test_a_script_learns_what_real_samples_gives(script, run, monkeypatch):
    """Who copies a script changes `real_samples`, and nothing else."""
    shorten(monkeypatch, script, 1)
    monkeypatch.setattr(cli, "save", lambda *_, **__: None)  # it takes seconds
    monkeypatch.setattr(cli, "save_picture", lambda *_: None)
    real_samples = script.real_samples

    def few_samples(_, *sources, **keywords):
        return real_samples(25, *sources, **keywords)

    monkeypatch.setattr(script, "real_samples", few_samples)
    assert "Trained on 25 samples" in run(script, "--epochs", 1).out


@pytest.mark.parametrize("size", images.SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_are_for_pictures_of_all_sizes(channels, size):
    for script, labels in ((dcgan, 0), (conditional_gan, 10)):
        noise = torch.randn(2, script.LATENT_DIM + labels)
        pictures = script.build_generator(channels, size)(noise)
        assert pictures.shape == (2, channels, size, size)
        assert 0 <= pictures.min() < pictures.max() <= 1
        scores = script.build_discriminator(channels, size)(pictures)
        assert scores.shape == (2, max(labels, 1))


def test_a_folder_of_pictures_is_learned(run, tmp_path, monkeypatch):
    shorten(monkeypatch, dcgan, 1)
    data = write_pictures(tmp_path / "data", ["black", "red"])
    run(dcgan, "--data", data, "--size", 32, "--epochs", 1, "--animate")
    assert {"copies.png", "samples.png", "training.gif"} < set(contents(tmp_path))
    run(dcgan, "--generate", 3, "--interpolate", 4)
    with Image.open(tmp_path / "generated" / "00002.png") as picture:
        assert (picture.size, picture.mode) == ((32, 32), "RGB")
    assert (tmp_path / "interpolation.png").exists()


def test_pictures_have_the_labels_of_their_subfolders(run, tmp_path, monkeypatch):
    shorten(monkeypatch, conditional_gan, 1)
    data = write_pictures(tmp_path / "data", ["Blue", "red"])
    run(conditional_gan, "--data", data, "--epochs", 1)
    for file in ("generated/00000.png", "generated/00039.png"):
        pixels = []
        for label in ("blue", "red", "1"):
            run(conditional_gan, "--generate", 40, "--label", label)
            pixels.append((tmp_path / file).read_bytes())
        assert pixels[0] != pixels[1] == pixels[2]
    message = run(conditional_gan, "--generate", 4, "--label", "green", status=2).err
    assert message.endswith("--label can be Blue, red, not green\n")


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ("--generate 4 --data photos", "--data is for training"),
        ("--size 64", "--size is for the pictures of --data"),
        ("--label 7", "give --generate"),
    ],
)
def test_an_option_without_effect_is_refused(options, hint, run):
    assert hint in run(conditional_gan, *options.split(), status=2).err


# --- Resuming ----------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [digits_gan, dcgan, conditional_gan])
def test_a_resumed_training_ends_like_an_uninterrupted_one(script, data_dir, tmp_path, monkeypatch):
    shorten(monkeypatch, script)
    data = own_data(script, data_dir)
    settings = {"epochs": 3, "seed": 5, "progress": False, "checkpoint": tmp_path / "checkpoint"}
    whole = script.train(*data, **settings)
    (tmp_path / "checkpoint").unlink()
    signal_after(monkeypatch, 2)
    assert script.train(*data, **settings).interrupted
    with pytest.raises(InputError, match="omit --resume"):
        script.train(*data, **settings | {"seed": 6}, resume=True)
    resumed = script.train(*data, **settings, resume=True)
    assert (resumed.history, resumed.verdict) == (whole.history, whole.verdict)
    assert resumed.samples.equal(whole.samples)


def test_a_checkpoint_is_there_until_a_training_ends(run, monkeypatch):
    shorten(monkeypatch, digits_gan)
    monkeypatch.setattr(cli, "model_files", lambda *_: {})  # it takes seconds
    signal_after(monkeypatch, 2)
    assert "--resume" in run(digits_gan, "--epochs", 3, status=130).err
    assert "for 3 epochs" in run(digits_gan, "--epochs", 3, "--resume").out
    message = run(digits_gan, "--epochs", 3, "--resume", status=1).err
    assert "checkpoint.pth is missing" in message
    assert "omit --resume" in message


# --- Two processes -----------------------------------------------------------------------------

PROCESS = """
import sys
import dcgan_multigpu

dcgan_multigpu.BATCHES_PER_EPOCH = 8
networks = []


def kept(build):
    def build_and_keep():
        networks.append(build())
        return networks[-1]

    return build_and_keep


dcgan_multigpu.build_generator = kept(dcgan_multigpu.build_generator)
dcgan_multigpu.build_discriminator = kept(dcgan_multigpu.build_discriminator)
status = dcgan_multigpu.main(sys.argv[1:])
print("weights", [float(next(network.parameters()).norm()) for network in networks])
sys.exit(status)
"""


@can_send_ctrl_c
def test_two_processes_learn_the_same_and_ctrl_c_ends_both(start, run, data_dir, tmp_path):
    pytest.importorskip("torchvision")
    with socket.create_server(("localhost", 0)) as server:  # a free port
        port = server.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    options = ["--epochs", "1000", "--patience", "1000", "--batch-size", "16", "--device", "cpu"]
    options += ["--data-dir", data_dir, "--out", "out"]
    first, second = (
        start(
            [sys.executable, "-c", PROCESS, *options],
            cwd=tmp_path,
            env=environment | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    )
    wait_for_an_epoch(first)
    second.send_signal(signal.SIGINT)
    printed, errors = first.communicate()
    other, other_errors = second.communicate()
    assert (first.returncode, second.returncode) == (130, 0), errors + other_errors
    assert ", interrupted" in printed
    assert {"generator.pt", "samples.png"} < set(contents(tmp_path / "out"))
    assert printed.splitlines()[-1] == other.strip()  # the weights
    assert "3 pictures" in run(dcgan_multigpu, "--generate", 3, "--out", tmp_path / "out").out


def test_a_script_for_several_processes_needs_torchrun(run):
    assert "torchrun" in run(dcgan_multigpu, status=2).err
