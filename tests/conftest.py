"""What the tests share: where the scripts are, and how a user runs one."""

import os
import struct
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import common

ROOT = Path(__file__).parent.parent
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]
torch.set_num_threads(1)  # as tests run side by side


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Let each test draw the same random numbers, whatever ran before it."""
    torch.manual_seed(0)


def seeded(seed: int) -> torch.Generator:
    """A source of random numbers of its own."""
    return torch.Generator().manual_seed(seed)


def new_training(data: object, epochs: int = 1, **more: Any) -> common.Training:
    """A training that no script has begun."""
    settings: dict[str, Any] = {"seed": 0, "epochs": epochs, "patience": epochs}
    return common.Training(data, batch_size=None, progress=False, **settings | more)


def new_outcome(rows: int = 10, **more: Any) -> common.Outcome:
    """A training of something else than a GAN."""
    settings: dict[str, Any] = {"seed": 0, "epochs": 1, "patience": 1, "batch_size": None}
    return common.Outcome(rows, progress=False, **settings | more)


def capped(monkeypatch: pytest.MonkeyPatch, script: types.ModuleType, batches: int = 3) -> None:
    """Make the epochs of a script short, where how well it learns is not what is tested."""
    monkeypatch.setattr(script, "BATCHES_PER_EPOCH", batches)


def at_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int, act: Callable[[], object]) -> None:
    """Let something happen in a training, at the end of this epoch, the first time."""
    evaluate, acts = common.Training.evaluate, [act]

    def evaluate_and_act(training: common.Training, *given: Any) -> None:
        evaluate(training, *given)
        if len(training.history) == epoch and acts:
            acts.pop()()

    monkeypatch.setattr(common.Training, "evaluate", evaluate_and_act)


def model_file(model: nn.Module, inputs: int, kind: str = "pt") -> bytes:
    """A saved model."""
    with tempfile.TemporaryDirectory() as folder:
        common.save_model(Path(folder), "model", model, inputs)
        return Path(folder, f"model.{kind}").read_bytes()


def run_script(name: str, *arguments: object, folder: Path) -> subprocess.CompletedProcess:
    """Run a script in a process of its own, in poor surroundings: no display, home or language."""
    bare = ("DISPLAY", "WAYLAND_DISPLAY", "LANG", "LC_ALL", "PYTHONUTF8")
    environment = {name: value for name, value in os.environ.items() if name not in bare}
    return subprocess.run(
        [sys.executable, folder / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment | {"HOME": "/nowhere", "LC_ALL": "C"},
        timeout=120,
    )


def write_images(folder: Path, name: str, train: int = 60, test: int = 20) -> Path:
    """A tiny data set for torchvision to read: in each class, one bright bar at a place of its own.

    `name` is that of the class in torchvision.datasets; gives the folder, as for --data-dir.
    """
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    random = torch.Generator().manual_seed(0)
    for part, count in (("train", train), ("t10k", test)):
        labels = torch.arange(count) % 10
        images = torch.randint(0, 50, (count, 28, 28), generator=random)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 4 : 2 * label + 6, 4:24] = 255
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">{values.ndim + 1}i", 0x800 + values.ndim, *values.shape)
            content = head + values.to(torch.uint8).numpy().tobytes()
            (raw / f"{part}-{kind}-ubyte").write_bytes(content)
    return folder


def image_arguments(data_dir: Path, out: Path) -> list[str]:
    """What an image script is told on the command line in every test."""
    return ["--data-dir", str(data_dir), "--device", "cpu", "--quiet", "--out", str(out)]


class Recorder:
    """When unpickled as code, it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return (self.trace.touch, ())
