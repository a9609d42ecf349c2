"""What the tests share: the scripts, tiny images, short trainings, and signals at an epoch."""

import signal
import struct
import sys
from pathlib import Path

import pytest
import torch

import common
import conditional_gan
import cycle_gan
import dcgan
import dcgan_multigpu
import digits_gan
import exp_curve_gan
import fashion_classifier
import images
import multiples_of_five_gan
import sine_gan
import table_gan
import wgan

ROOT = Path(__file__).parent.parent
POINT_GANS = [exp_curve_gan, sine_gan, wgan]
IMAGE_GANS = [digits_gan, dcgan, conditional_gan, cycle_gan]
IMAGE_SCRIPTS = [*IMAGE_GANS, fashion_classifier]
GANS = [*POINT_GANS, multiples_of_five_gan, table_gan, *IMAGE_GANS]
SCRIPTS = [*GANS, fashion_classifier]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
can_send_ctrl_c = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows sends no Ctrl-C to another process"
)
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]
torch.set_num_threads(1)  # tests run side by side


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def new_training(data, **settings):
    """A training of one epoch, before it."""
    settings = {"seed": 0, "epochs": 1, "patience": 1, "progress": False} | settings
    return common.Training(data, **settings)


def shorten(monkeypatch, script, batches=3):
    """Makes trainings short: few batches an epoch, and narrow convolutions."""
    if script in GANS:
        monkeypatch.setattr(script, "BATCHES_PER_EPOCH", batches)
        monkeypatch.setattr(script, "EMA_DECAY", 0.9)  # so that few batches have an effect
    if script in (dcgan, conditional_gan):
        monkeypatch.setattr(script, "WIDTH", 8)


def signal_after(monkeypatch, epoch, number=signal.SIGINT):
    """Sends a signal, by default that of Ctrl-C, the first time that a GAN ends this epoch."""
    evaluate = common.Training.evaluate
    to_send = [number]

    def evaluate_and_signal(training, *arguments):
        evaluate(training, *arguments)
        if len(training.history) == epoch and to_send:
            signal.raise_signal(to_send.pop())

    monkeypatch.setattr(common.Training, "evaluate", evaluate_and_signal)


def wait_for_an_epoch(process):
    """Waits until the bar of a training says that its first epoch has ended; returns the bar."""
    bar = ""
    while "distance" not in bar:
        bar += process.stderr.read(1) or pytest.fail(bar)
    return bar


def contents(folder):
    """The visible files of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*") if path.is_file()}


def write_images(folder, name, train=160, test=20):
    """Writes a tiny data set for torchvision: each class has a bright bar in one of ten places.

    `name` is the class in torchvision.datasets; returns the folder, for --data-dir.
    """
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        labels = torch.arange(count) % 10
        pixels = torch.randint(0, 50, (count, 28, 28), generator=seeded(0))
        for image, label in zip(pixels, labels, strict=True):
            top = 4 + 4 * (label // 2)
            left = 4 + 10 * (label % 2)
            image[top : top + 3, left : left + 10] = 255
        for kind, values in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(f">{values.ndim + 1}i", 0x800 + values.ndim, *values.shape)
            content = head + values.to(torch.uint8).numpy().tobytes()
            (raw / f"{part}-{kind}-ubyte").write_bytes(content)
    return folder


def own_data(script, data_dir):
    """The data that a script's `train` takes, few rows of its own: a list of arguments."""
    if script not in IMAGE_SCRIPTS:
        return [script.real_samples(300, seeded(0))]
    pytest.importorskip("torchvision")
    if script is fashion_classifier:
        pictures, labels, _ = images.load_dataset("fashion", data_dir)
        return [pictures, labels]
    samples = script.real_samples(60, seeded(0), data_dir=data_dir)
    return [samples] if isinstance(samples, torch.Tensor) else list(samples)


def arguments(script, data_dir, out):
    """The options that each test gives on the command line."""
    options = ["--device", "cpu", "--quiet", "--out", str(out)]
    if script in [*IMAGE_SCRIPTS, dcgan_multigpu]:
        pytest.importorskip("torchvision")
        options += ["--data-dir", str(data_dir)]
    return options
