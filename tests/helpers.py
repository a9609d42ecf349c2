"""What the tests share: the scripts, tiny images, short trainings, and signals at an epoch."""

import signal
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import common
import conditional_gan
import cycle_gan
import dcgan
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
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]
torch.set_num_threads(1)  # tests run side by side


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def new_training(data: object, epochs: int = 1, **more: Any) -> common.Training:
    """A training before its first epoch."""
    settings: dict[str, Any] = {"seed": 0, "epochs": epochs, "patience": epochs}
    return common.Training(data, batch_size=None, progress=False, **settings | more)


def capped(patch: pytest.MonkeyPatch, script: ModuleType, batches: int = 3, export: bool = False):
    """Shorter epochs, narrow convolutions, fewer weights and trees, no .pt2 without `export`."""
    if not export:
        patch.setattr("torch.export.export", lambda *_, **__: None)
        patch.setattr("torch.export.save", lambda *_: None)
    for name, value in {"BATCHES_PER_EPOCH": batches, "WIDTH": 8, "EMA_DECAY": 0.9}.items():
        patch.setattr(script, name, value, raising=False)
    if script is table_gan:
        patch.setattr("sklearn.ensemble.RandomForestClassifier.__init__.__defaults__", (10,))


def signal_after(monkeypatch: pytest.MonkeyPatch, epoch: int, number: int = signal.SIGINT) -> None:
    """Sends a signal, by default that of Ctrl-C, once this epoch of a GAN's training has ended."""
    evaluate, numbers = common.Training.evaluate, [number]

    def evaluate_and_signal(training: common.Training, *arguments: Any) -> None:
        evaluate(training, *arguments)
        if len(training.history) == epoch and numbers:
            signal.raise_signal(numbers.pop())

    monkeypatch.setattr(common.Training, "evaluate", evaluate_and_signal)


def write_images(folder: Path, name: str, train: int = 160, test: int = 20) -> Path:
    """Writes a tiny data set for torchvision: each class has a bright bar in one of ten places.

    `name` is the class in torchvision.datasets; returns the folder, for --data-dir.
    """
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        labels = torch.arange(count) % 10
        pixels = torch.randint(0, 50, (count, 28, 28), generator=seeded(0))
        for image, label in zip(pixels, labels, strict=True):
            top, left = 4 + 4 * (label // 2), 4 + 10 * (label % 2)
            image[top : top + 3, left : left + 10] = 255
        for kind, values in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(f">{values.ndim + 1}i", 0x800 + values.ndim, *values.shape)
            content = head + values.to(torch.uint8).numpy().tobytes()
            (raw / f"{part}-{kind}-ubyte").write_bytes(content)
    return folder


def own_data(script: ModuleType, data_dir: Path) -> tuple:
    """The first arguments of a script's `train`: few rows of its own data."""
    if script not in IMAGE_SCRIPTS:
        return (script.real_samples(300, seeded(0)),)
    pytest.importorskip("torchvision")
    if script is fashion_classifier:
        return images.load_images("fashion", data_dir)
    return (script.real_samples(60, seeded(0), data_dir=data_dir),)


def arguments(script: ModuleType, data_dir: Path, out: Path) -> list[str]:
    """The options that each test gives on the command line."""
    if script in IMAGE_SCRIPTS:
        pytest.importorskip("torchvision")
    images = ["--data-dir", str(data_dir)] * (script in IMAGE_SCRIPTS)
    return ["--device", "cpu", "--quiet", "--out", str(out), *images]
