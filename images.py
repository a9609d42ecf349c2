"""What the image scripts share, besides `common.py`: copy both along with the script.

Sections: loading, augmentation, class checks, plots, saving, checkpoints, processes. Images are
rows (n, 784) of 28 by 28 pixels, from 0, black, to 1, white.
"""

import argparse
import atexit
import contextlib
import io
import itertools
import math
import os
import signal
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image  # which matplotlib needs as well
from torch import Tensor, distributed, nn

import common
from common import Batches, Evaluation, Failure, Figure, InputError, Training

# --- Loading -----------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, gan: bool = True) -> None:
    """Adds --data-dir and, for GANs, --dataset and --format."""
    add, where = parser.add_argument, "folder of the data sets, downloaded if missing (%(default)s)"
    add("--data-dir", metavar="DIR", type=Path, default=Path("data"), help=where)
    if gan:
        form = "of generated images: a folder, or one array (%(default)s)"
        add("--dataset", choices=["mnist", "fashion"], default="mnist", help="(%(default)s)")
        add("--format", choices=["png", "npz"], default="png", help=form)


def load_images(dataset: str, folder: Path | str, train: bool = True) -> tuple[Tensor, Tensor]:
    """Images (n, 784) and labels (n,) of "mnist" or "fashion", downloaded if they are absent."""
    try:
        from torchvision import datasets
    except ImportError:
        raise Failure("images need torchvision; pip install torchvision") from None
    kind = {"mnist": datasets.MNIST, "fashion": datasets.FashionMNIST}[dataset]
    raw = Path(folder, kind.__name__, "raw")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it tries
            found = kind(str(folder), train=train, download=True)
        if found.data.shape[1:] != (28, 28) or len(found.data) != len(found.targets):
            raise ValueError
    except (AssertionError, ValueError):
        raise Failure(
            f"the images in {raw} are damaged; delete them to download them again"
        ) from None
    except (RuntimeError, OSError):
        files = ", ".join(name for name, _ in kind.resources)
        tried = f"no images in {raw}, and downloading from {' or '.join(kind.mirrors)} failed"
        remedy = f"check the connection, choose another --data-dir, or put these there: {files}"
        raise Failure(f"{tried}; {remedy}") from None
    return found.data.flatten(1).float() / 255, found.targets.long()


OWN = "images must be light on black, as in the data sets; those dark on white are inverted"


def read_image(path: Path) -> Tensor:
    """An image file as a row (1, 784), shrunk to 28 by 28 pixels, light on black like the others.

    An image with a bright border is dark on white: it is inverted, and standard error says so.
    """
    try:
        with Image.open(path) as image:
            shrunk = np.asarray(image.convert("LA").resize((28, 28)), dtype=np.float32)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror or 'it is not an image'}") from None
    pixels, opacity = torch.from_numpy(shrunk / 255).unbind(dim=2)
    # A transparent pixel hides any colour, often black: it becomes the opposite of what is seen
    ground = float((opacity * pixels).sum() < opacity.sum() / 2)
    pixels = opacity * pixels + (1 - opacity) * ground
    if torch.cat([*pixels[[0, -1]], *pixels.T[[0, -1]]]).mean() > 0.5:
        print(f"{path} is dark on white, so it was inverted", file=sys.stderr)
        pixels = 1 - pixels
    return pixels.reshape(1, -1)


def check_images(data: object, more: int = 0) -> Tensor:
    """Rows (n, 784 + `more`) of images, and more, in 0..1; ValueError if they are no such rows."""
    rows = common.as_rows(data).float()
    if rows.shape[1] != 784 + more:
        wanted = f"{784 + more} columns, for 28 by 28 pixels{f' and {more} more' if more else ''}"
        raise InputError(f"data must have {wanted}, not {rows.shape[1]}")
    if rows.min() < 0 or rows.max() > 1:
        raise InputError(f"data must lie in 0..1, not {rows.min():g}..{rows.max():g}")
    return rows


def check_labels(labels: object, classes: int) -> Tensor:
    """Labels (n,) of any integer type, on the CPU; ValueError if they are others."""
    try:
        integers = torch.as_tensor(labels).detach().cpu()
        if integers.is_floating_point() or integers.ndim != 1:
            raise TypeError
        integers = integers.long()
    except (TypeError, ValueError, RuntimeError):
        raise InputError("labels must be integers of shape (n,)") from None
    if integers.numel() and not 0 <= integers.min() <= integers.max() < classes:
        raise InputError(f"labels must be from 0 to {classes - 1}")
    return integers


# --- Augmentation ------------------------------------------------------------------------------


def random_shift(images: Tensor, most: int) -> Tensor:
    """Square images (n, pixels), each randomly shifted by up to `most` pixels along each axis."""
    n, side = len(images), math.isqrt(images.shape[1])
    padded = nn.functional.pad(images.view(n, side, side), (most,) * 4)
    starts = torch.randint(2 * most + 1, (2, n, 1), device=images.device)
    rows, columns = starts + torch.arange(side, device=images.device)
    image = torch.arange(n, device=images.device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]].flatten(1)


def cutout(images: Tensor, size: int) -> Tensor:
    """Square images (n, pixels), each with a random black square of an odd `size`: cutout.

    At the edges, part of it lies outside (DeVries and Taylor 2017).
    """
    n, side = len(images), math.isqrt(images.shape[1])
    middle = torch.randint(side, (2, n, 1), device=images.device)
    rows, columns = (torch.arange(side, device=images.device) - middle).abs() <= size // 2
    hidden = rows[:, :, None] & columns[:, None, :]
    return images.view(n, side, side).masked_fill(hidden, 0).flatten(1)


def augment(images: Tensor) -> Tensor:
    """Differentiable augmentation of real and generated images (n, pixels) (Zhao et al. 2020).

    It limits overfitting, and does not leak into the samples.
    """
    return cutout(random_shift(images, 2), 7)


# --- Class checks ------------------------------------------------------------------------------

MIN_CONFIDENT = 0.9  # smallest good share of confident images, relative to real ones


def nearest_class(
    images: Tensor, real: Tensor, labels: Tensor, among_real: bool = False
) -> tuple[Tensor, Tensor]:
    """The class (n,) of the nearest real image, and whether it is clear (n,).

    Images have shape (n, pixels), real ones (m, pixels) with labels (m,). It is clear if at least
    four of the five nearest agree. `among_real`: the images are themselves among the real ones.
    """
    first = 1 if among_real else 0  # past itself
    count = min(5 + first, len(real))
    nearest = [torch.cdist(rows, real).topk(count, largest=False) for rows in images.split(256)]
    classes = labels[torch.cat([found.indices[:, first:] for found in nearest])]
    return classes[:, 0], (classes == classes[:, :1]).sum(dim=1) >= 4


def check_classes(training: Training, data: Tensor, labels: Tensor) -> Tensor:
    """Add class checks of 2,048 samples to the verdict; returns the class (2048,) of each."""
    some = torch.randperm(len(data), generator=common.stream("images compared"))[:2048]
    _, real_confident = nearest_class(data[some], data, labels, among_real=True)
    classes, confident = nearest_class(training.samples[:2048, : data.shape[1]], data, labels)
    share, real_share = confident.float().mean().item(), real_confident.float().mean().item()
    words = f"{share:.0%} of generated images are clearly of one class, {real_share:.0%} of real"
    training.check(share >= MIN_CONFIDENT * real_share, words)
    training.metrics |= {"plain": share, "plain_of_real": real_share}
    training.check_missing(labels, classes[confident])
    return classes


# --- Plots --------------------------------------------------------------------------------------


def image_grid(images: Tensor, columns: int) -> np.ndarray:
    """Square images (n, pixels) as one grid with so many columns."""
    side = math.isqrt(images.shape[1])
    missing = torch.zeros(-len(images) % columns, images.shape[1])
    tiles = torch.cat([images, missing]).view(-1, columns, side, side)
    return tiles.transpose(1, 2).flatten(2).flatten(0, 1).numpy()


def plot_images(training: Training, real: Tensor, labels: Tensor, classes: Tensor) -> Figure:
    """Plots 64 real and generated images, class frequencies, and the history.

    Real images (n, 784) have labels (n,); generated ones are of `classes` (m,).
    """
    top = [["real", "generated", "classes"]]
    figure, axes = common.plot_history(training.history, top, training.kept_epoch)
    for name, images in (("real", real), ("generated", training.samples)):
        axes[name].imshow(image_grid(images[:64], 8), cmap="gray", vmin=0, vmax=1)
        axes[name].set_title(name)
        axes[name].set_axis_off()
    common.plot_frequencies(axes["classes"], labels, classes)
    axes["classes"].set(xlabel="class", xticks=range(int(labels.max()) + 1))
    return figure


def plot_image_rows(
    training: Training, images: Tensor, columns: int, names: Sequence[str]
) -> Figure:
    """Plots images (n, pixels), `columns` in a row, each row with its name, and the history."""
    figure, axes = common.plot_history(training.history, [["images"] * 3], training.kept_epoch)
    axes["images"].imshow(image_grid(images, columns), cmap="gray", vmin=0, vmax=1)
    axes["images"].set(xticks=[], yticks=range(14, 28 * len(names), 28), yticklabels=names)
    return figure


def plot_interpolations(images: Tensor, steps: int) -> Figure:
    """Plots interpolations, one per row; images (rows * steps, pixels)."""
    figure = Figure(figsize=(0.6 * steps, 0.6 * len(images) / steps), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image_grid(images, steps), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    return figure


def animate_images(snapshots: common.Snapshots) -> bytes:
    """A GIF of images (n, pixels) generated from fixed noise."""
    figure = Figure(figsize=(4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    tiles = axes.imshow(np.zeros((224, 224)), cmap="gray", vmin=0, vmax=1)

    def show(rows: Tensor) -> None:
        tiles.set_data(image_grid(rows[:64, :784], 8))

    return common.animate(figure, snapshots, show)


def plot_predictions(
    training: common.Outcome, images: Tensor, labels: Tensor, predicted: Tensor, shares: Tensor,
    names: Sequence[str],
) -> Figure:  # fmt: skip
    """Plots 25 images (n, 784) with their predictions, the history, and the confusion matrix.

    `shares` (classes, classes) is the row-normalised confusion matrix.
    """
    tiles = [[str(5 * row + column) for column in range(5)] for row in range(5)]
    figure = Figure(figsize=(10, 7), dpi=120, layout="constrained")
    mosaic: Any = [[tiles, "confusion"], ["loss", "accuracy"]]
    axes = figure.subplot_mosaic(mosaic, height_ratios=[3, 1.4])
    for i in range(25):
        axes[str(i)].set_axis_off()
        if i < len(images):
            axes[str(i)].imshow(images[i].view(28, 28).numpy(), cmap="gray_r")
            wrong = f"\n(is {names[int(labels[i])]})" if labels[i] != predicted[i] else ""
            style = {"fontsize": 6, "color": "#b03a00" if wrong else "black"}
            axes[str(i)].set_title(names[int(predicted[i])] + wrong, **style)
    axes["confusion"].imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for i, j in torch.nonzero(shares >= 0.005).tolist():
        style = {"fontsize": 7, "color": "white" if shares[i, j] > 0.5 else "black"}
        axes["confusion"].text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", **style)
    axes["confusion"].set(title="% of each category (row) predicted as (column)")
    axes["confusion"].set_xticks(range(len(names)), names, rotation=90)
    axes["confusion"].set_yticks(range(len(names)), names)
    for name in ("training_loss", "validation_loss", "validation_accuracy"):
        part, measured = name.split("_")
        colour = common.REAL if part == "training" else common.GENERATED
        numbers = [getattr(row, name) for row in training.history]
        axes[measured].plot(range(1, len(numbers) + 1), numbers, color=colour, label=part)
        axes[measured].set(xlabel="epoch", ylabel=measured)
        axes[measured].legend()
    return figure


# --- Saving ------------------------------------------------------------------------------------


def save_images(
    folder: Path, blocks: Iterator[Tensor], kind: str, named: Sequence[Path] = ()
) -> None:
    """Saves blocks of images (n, 784) as PNG files, numbered or `named` like others, or an .npz."""
    pixels = ((255 * rows).round().byte().view(-1, 28, 28).numpy() for rows in blocks)
    if kind == "npz":
        file = io.BytesIO()
        np.savez_compressed(file, images=np.concatenate(list(pixels)))
        common.write_file(folder.with_suffix(".npz"), file.getvalue())
        return
    folder.mkdir()
    stems = [path.stem for path in named]
    if len(set(stems)) < len(stems):  # of files in several folders
        stems = [f"{i}-{stem}" for i, stem in enumerate(stems, start=1)]
    names = stems or map("{:05}".format, itertools.count())
    for stem, image in zip(names, itertools.chain.from_iterable(pixels), strict=False):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        common.write_file(folder / f"{stem}.png", file.getvalue())


def use_generator(options: argparse.Namespace, latent_dim: int) -> int:
    """Serves --generate and --interpolate of images; returns the exit status."""
    generator = common.load_model(options.out / "generator.pt", latent_dim, 784)
    with common.output_folder(options.out) as folder:
        if options.generate:
            blocks = common.generate(generator, latent_dim, options)
            save_images(folder / "generated", blocks, options.format)
        if options.interpolate:
            steps, random = options.interpolate, common.stream("walk", options.seed)
            walks = [common.interpolate(steps, latent_dim, 2, random) for _ in range(8)]
            rows, picture = generator(torch.cat(walks)), folder / "interpolation.png"
            common.save_picture(picture, plot_interpolations, rows, steps)
    return 0


# --- Checkpoints -------------------------------------------------------------------------------


@contextlib.contextmanager
def resumable(checkpoint: Path) -> Iterator[None]:
    """If the training is interrupted twice, say that its checkpoint is there."""
    try:
        yield
    except KeyboardInterrupt:
        if checkpoint.exists():
            words = "interrupted; add --resume to continue after the last complete epoch"
            raise KeyboardInterrupt(words) from None
        raise


class Checkpoint:
    """Saves and restores a training; `parts` are all of it that have a state_dict."""

    STOPPING = (
        "epoch", "last_epoch", "kept_epoch", "lowest", "weights", "diverged",
        "progress_epoch", "progress_error",
    )  # fmt: skip

    def __init__(self, path: Path | None, training: Training, rows: Batches, **parts: Any) -> None:
        self.path, self.training, self.rows, self.parts = path, training, rows, parts
        rates = [part.defaults["lr"] for part in parts.values() if hasattr(part, "defaults")]
        self.same = {"epochs": training.stopping.last_epoch, "batch size": rows.size, "lr": rates}
        self.same["data or seed"] = zlib.crc32(training.train_rows.numpy().tobytes())

    def save(self) -> None:
        """Write the file, as a whole; without a path, nothing."""
        if self.path is None or self.training.stopping.diverged:
            return
        state = {name: getattr(self.training.stopping, name) for name in self.STOPPING}
        state |= self.same | {"stopped": self.training.stopped}
        state["history"] = [tuple(row) for row in self.training.history]
        state["parts"] = {name: part.state_dict() for name, part in self.parts.items()}
        state["random"] = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
        content, partial = io.BytesIO(), self.path.with_name(f".{self.path.name}")
        torch.save(state | {"shuffled": self.rows.shuffled}, content)
        common.write_file(partial, content.getvalue())
        partial.replace(self.path)

    def load(self) -> None:
        """Restore it; Failure if it is unreadable, ValueError if it is of another training."""
        if self.path is None or not self.path.exists():
            raise Failure(f"nothing to resume: {self.path} does not exist; omit --resume")
        try:
            with warnings.catch_warnings(action="ignore"):  # that the file is not torch's own
                state = torch.load(self.path, map_location="cpu", weights_only=True)
            other = [name for name in self.same if state[name] != self.same[name]]
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
            vars(self.training.stopping).update({name: state[name] for name in self.STOPPING})
            self.training.history = [Evaluation(*row) for row in state["history"]]
            self.training.stopped = state["stopped"]
            self.rows.shuffled = state["shuffled"].to(self.rows.rows.device)
            torch.set_rng_state(state["random"][0])
            torch.cuda.set_rng_state_all(state["random"][1:])
        except Exception:  # torch raises many kinds of errors for files that it cannot read
            raise Failure(f"{self.path} is damaged, or not a checkpoint; omit --resume") from None
        if other:
            raise InputError(f"{self.path} belongs to a training with another {', '.join(other)}")


# --- Processes ---------------------------------------------------------------------------------


def join_processes(options: argparse.Namespace) -> None:
    """If torchrun has started this process, join the others, on the CPU or on a GPU of its own.

    The first process of a machine takes the GPU that `--device` names, or GPU 0, the next process
    the next GPU.
    """
    if "LOCAL_RANK" not in os.environ:
        return
    device, backend = common.choose_device(options.device), "gloo"
    if device.type == "cuda":
        gpu, backend = (device.index or 0) + int(os.environ["LOCAL_RANK"]), "nccl"
        if gpu >= torch.cuda.device_count():
            raise InputError("there are more processes than GPUs; start fewer, or add --device cpu")
        torch.cuda.set_device(gpu)
        options.device = f"cuda:{gpu}"
    distributed.init_process_group(backend)
    atexit.register(distributed.destroy_process_group)
    for number in (signal.SIGINT, signal.SIGTERM):  # a process that leaves would block the others
        signal.signal(number, lambda *_: SIGNALS.append(1))


SIGNALS: list[int] = []  # received under torchrun


def stop_together(training: Training, device: torch.device) -> bool:
    """Whether a process has been interrupted; sets `stopped` if one of the trainings has."""
    flags = torch.tensor([float(training.stopped), float(bool(SIGNALS))], device=device)
    distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    training.stopped = bool(flags[0])
    return bool(flags[1])
