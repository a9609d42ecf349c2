"""What the image scripts share, besides `common.py`: copy both along with the script.

In order: reading, augmenting, recognising, pictures, writing, resuming, processes. Images are rows
(n, 784) of 28 by 28 pixels, 0 black to 1 white.
"""

import argparse
import atexit
import contextlib
import io
import itertools
import math
import os
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

# --- Reading -----------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, gan: bool = True) -> None:
    """The options of where images lie and, of a GAN, of which images, and in what form."""
    add, where = parser.add_argument, "where the images lie, or are downloaded to (%(default)s)"
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
        raise Failure(f"the images in {raw} are damaged; delete them, to get them anew") from None
    except (RuntimeError, OSError):
        files = ", ".join(name for name, _ in kind.resources)
        tried = f"no images in {raw}, and no download from {' or '.join(kind.mirrors)}"
        remedy = f"connect, choose another --data-dir, or put these there, unpacked: {files}"
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


# --- Augmenting --------------------------------------------------------------------------------


def shifted(images: Tensor, most: int) -> Tensor:
    """Square images (n, pixels), each moved at random by at most so many pixels along each axis."""
    n, side = len(images), math.isqrt(images.shape[1])
    padded = nn.functional.pad(images.view(n, side, side), (most,) * 4)
    starts = torch.randint(2 * most + 1, (2, n, 1), device=images.device)
    rows, columns = starts + torch.arange(side, device=images.device)
    image = torch.arange(n, device=images.device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]].flatten(1)


def cut_out(images: Tensor, size: int) -> Tensor:
    """Square images (n, pixels), each with a random square, `size` pixels a side, odd, made black.

    At the edges, less of it lies in the image (DeVries and Taylor 2017).
    """
    n, side = len(images), math.isqrt(images.shape[1])
    middle = torch.randint(side, (2, n, 1), device=images.device)
    rows, columns = (torch.arange(side, device=images.device) - middle).abs() <= size // 2
    hidden = rows[:, :, None] & columns[:, None, :]
    return images.view(n, side, side).masked_fill(hidden, 0).flatten(1)


def augment(images: Tensor) -> Tensor:
    """Images (n, pixels) as a discriminator sees them: moved a little, a square made black.

    So it never sees the same image twice, and cannot memorise them. The generator's images pass
    here too, so they need not look like that themselves (Zhao et al. 2020).
    """
    return cut_out(shifted(images, 2), 7)


# --- Recognising -------------------------------------------------------------------------------

PLAIN = 0.9  # share, in units of that of real images, of the plain ones among good generated ones


def recognise(
    images: Tensor, real: Tensor, labels: Tensor, among_real: bool = False
) -> tuple[Tensor, Tensor]:
    """The class (n,) of each image (n, pixels), and whether it is plainly of that class (n,).

    The class is that of the nearest real image (m, pixels), with its label (m,); plainly, if four
    of the five nearest are of it. `among_real`: the images are themselves among the real ones.
    """
    first = 1 if among_real else 0  # past itself
    count = min(5 + first, len(real))
    nearest = [torch.cdist(rows, real).topk(count, largest=False) for rows in images.split(256)]
    classes = labels[torch.cat([found.indices[:, first:] for found in nearest])]
    return classes[:, 0], (classes == classes[:, :1]).sum(dim=1) >= 4


def judge(training: Training, data: Tensor, labels: Tensor) -> Tensor:
    """Add to the verdict what is recognised in 2,048 samples; gives the class (2048,) of each."""
    some = torch.randperm(len(data), generator=common.stream("images compared"))[:2048]
    _, plain_of_real = recognise(data[some], data, labels, among_real=True)
    classes, plain = recognise(training.samples[:2048, : data.shape[1]], data, labels)
    share, real_share = plain.float().mean().item(), plain_of_real.float().mean().item()
    words = f"{share:.0%} of generated images are plainly of one class, {real_share:.0%} of real"
    training.findings[words] = share >= PLAIN * real_share
    training.figures |= {"plain": share, "plain_of_real": real_share}
    training.find_missing(labels, classes[plain])
    return classes


# --- Pictures ----------------------------------------------------------------------------------


def image_grid(images: Tensor, columns: int) -> np.ndarray:
    """Square images (n, pixels), row by row, as one with so many columns."""
    side = math.isqrt(images.shape[1])
    missing = torch.zeros(-len(images) % columns, images.shape[1])
    tiles = torch.cat([images, missing]).view(-1, columns, side, side)
    return tiles.transpose(1, 2).flatten(2).flatten(0, 1).numpy()


def plot_images(training: Training, real: Tensor, labels: Tensor, classes: Tensor) -> Figure:
    """64 real and generated images, how often each class comes among all, and the history.

    The real ones (n, 784) have labels (n,), the generated ones were recognised as classes (m,).
    """
    top = [["real", "generated", "classes"]]
    figure, axes = common.plot_history(training.history, top, training.best_epoch)
    for name, images in (("real", real), ("generated", training.samples)):
        axes[name].imshow(image_grid(images[:64], 8), cmap="gray", vmin=0, vmax=1)
        axes[name].set_title(name)
        axes[name].set_axis_off()
    common.plot_shares(axes["classes"], labels, classes)
    axes["classes"].set(xlabel="class", xticks=range(int(labels.max()) + 1))
    return figure


def plot_rows(training: Training, images: Tensor, columns: int, names: Sequence[str]) -> Figure:
    """Images (n, pixels), so many in a row, each row with its name, and the history."""
    figure, axes = common.plot_history(training.history, [["images"] * 3], training.best_epoch)
    axes["images"].imshow(image_grid(images, columns), cmap="gray", vmin=0, vmax=1)
    axes["images"].set(xticks=[], yticks=range(14, 28 * len(names), 28), yticklabels=names)
    return figure


def plot_strips(images: Tensor, steps: int) -> Figure:
    """Walks from image to image, a row each; images (walks * steps, pixels)."""
    figure = Figure(figsize=(0.6 * steps, 0.6 * len(images) / steps), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image_grid(images, steps), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    return figure


def animate_images(film: common.Film) -> bytes:
    """A GIF of images (n, pixels) generated from always the same noise."""
    figure = Figure(figsize=(4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    grid = axes.imshow(np.zeros((224, 224)), cmap="gray", vmin=0, vmax=1)
    return common.animate(figure, film, lambda rows: grid.set_data(image_grid(rows[:64, :784], 8)))


def plot_predictions(
    training: common.Epochs, images: Tensor, labels: Tensor, predicted: Tensor, shares: Tensor,
    names: Sequence[str],
) -> Figure:  # fmt: skip
    """The first 25 images (n, 784) with what was predicted, the history, and the confusions.

    These are shares (classes, classes) of each class, a row, that are predicted to be each.
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


# --- Writing -----------------------------------------------------------------------------------


def save_images(
    folder: Path, blocks: Iterator[Tensor], kind: str, named: Sequence[Path] = ()
) -> None:
    """Write blocks of images (n, 784) as PNG files, numbered or `named` like others, or an .npz."""
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


# --- Resuming ----------------------------------------------------------------------------------


class Checkpoint:
    """Where a training stands, in a file; `parts` are all of it that have a state_dict."""

    STATE = "best", "best_epoch", "lowest", "progressed", "reached", "last"

    def __init__(self, path: Path | None, training: Training, rows: Batches, **parts: Any) -> None:
        self.path, self.training, self.rows, self.parts = path, training, rows, parts
        rates = [part.defaults["lr"] for part in parts.values() if hasattr(part, "defaults")]
        self.same = {"epochs": training.epochs, "batch size": rows.size, "lr": rates}
        self.same["data or seed"] = zlib.crc32(training.real.numpy().tobytes())

    def save(self) -> None:
        """Write the file, whole; without a path, nothing."""
        if self.path is None or self.training.diverged:
            return
        state = {name: getattr(self.training, name) for name in self.STATE} | self.same
        state["history"] = [tuple(row) for row in self.training.history]
        state["parts"] = {name: part.state_dict() for name, part in self.parts.items()}
        state["random"] = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
        content, partial = io.BytesIO(), self.path.with_name(f".{self.path.name}")
        torch.save(state | {"shuffled": self.rows.shuffled}, content)
        common.write_file(partial, content.getvalue())
        partial.replace(self.path)

    def load(self) -> None:
        """Go on from the file; Failure if that cannot be done, ValueError if it is of another."""
        if self.path is None or not self.path.exists():
            raise Failure(f"no training to go on with, as there is no {self.path}; omit --resume")
        try:
            with warnings.catch_warnings(action="ignore"):  # that the file is not torch's own
                state = torch.load(self.path, map_location="cpu", weights_only=True)
            other = [name for name in self.same if state[name] != self.same[name]]
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
            vars(self.training).update({name: state[name] for name in self.STATE})
            self.training.history = [Evaluation(*row) for row in state["history"]]
            self.rows.shuffled = state["shuffled"].to(self.rows.rows.device)
            torch.set_rng_state(state["random"][0])
            torch.cuda.set_rng_state_all(state["random"][1:])
        except Exception:  # torch raises errors of many kinds over a file that it cannot read
            raise Failure(f"{self.path} is damaged, or of another kind; omit --resume") from None
        if other:
            raise InputError(f"{self.path} is of a training with another {', '.join(other)}")


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
