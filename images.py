"""What the image scripts share, besides `common.py`: copy both along with the script.

Images are rows (n, 784) of 28 by 28 pixels, from 0, black, to 1, white.
"""

import atexit
import io
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image  # installed with matplotlib
from torch import Tensor, distributed, nn

import common
from common import Batches, Failure, Figure, InputError, Training

MIN_CONFIDENT = 0.9  # smallest good share of confident images, relative to real ones
SIGNALS: list[int] = []  # received under torchrun


def add_options(parser: ArgumentParser, gan: bool = True, files: str = "") -> None:
    """Adds --data-dir, for GANs --dataset and --format, and an option for `files` of images."""
    add = parser.add_argument
    if files:
        own = "no training: use your own images, light on black; others are inverted"
        add(files, metavar="FILE", nargs="+", type=Path, default=[], help=own)
    add("--data-dir", metavar="DIR", type=Path, default=Path("data"), help="images (%(default)s)")
    if gan:
        add("--dataset", choices=["mnist", "fashion"], default="mnist", help="(%(default)s)")
        add("--format", choices=["png", "npz"], default="png", help="of images (%(default)s)")


def load_images(dataset: str, folder: Path | str, train: bool = True) -> tuple[Tensor, Tensor]:
    """Images (n, 784) and labels (n,) of "mnist" or "fashion", downloaded if they are missing."""
    try:
        from torchvision import datasets

        kind = {"mnist": datasets.MNIST, "fashion": datasets.FashionMNIST}[dataset]
        data = kind(folder, train=train, download=True)
    except ImportError:
        raise Failure("images need torchvision; pip install torchvision") from None
    except (AssertionError, ValueError, RuntimeError, OSError):
        files = ", ".join(name for name, _ in kind.resources)
        reason = f"no download from {' or '.join(kind.mirrors)}, or damaged files in {folder}"
        remedy = f"delete these, or choose another --data-dir with {kind.__name__}/raw/{files}"
        raise Failure(f"cannot load images: {reason}; {remedy}") from None
    return data.data.flatten(1).float() / 255, data.targets.long()


def read_image(path: Path) -> Tensor:
    """An image file as a row (1, 784), shrunk to 28 by 28 pixels.

    An image with a bright border is dark on white: it is inverted, and standard error says so.
    """
    try:
        with Image.open(path) as image:
            shrunk = np.asarray(image.convert("LA").resize((28, 28)), dtype=np.float32)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror or 'it is not an image'}") from None
    pixels, opacity = torch.from_numpy(shrunk / 255).unbind(dim=2)
    # A transparent background gets the brightness that the drawing does not have
    background = float((opacity * pixels).sum() < opacity.sum() / 2)
    pixels = opacity * pixels + (1 - opacity) * background
    if torch.cat([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean() > 0.5:
        print(f"{path} is dark on white, so it was inverted", file=sys.stderr)
        pixels = 1 - pixels
    return pixels.reshape(1, -1)


def check_images(data: object, more: int = 0) -> Tensor:
    """Rows (n, 784 + `more`) of numbers in 0..1 as float32, on the CPU; or ValueError."""
    rows = common.as_rows(data).float()
    if rows.shape[1] != 784 + more:
        wanted = f"{784 + more} columns, for 28 by 28 pixels{f' and {more} more' if more else ''}"
        raise InputError(f"data must have {wanted}, not {rows.shape[1]}")
    if rows.min() < 0 or rows.max() > 1:
        raise InputError(f"data must lie in 0..1, not {rows.min():g}..{rows.max():g}")
    return rows


def random_shift(images: Tensor, most: int) -> Tensor:
    """Images (n, 784), each randomly shifted by up to `most` pixels along each axis."""
    n, device = len(images), images.device
    padded = nn.functional.pad(images.view(n, 28, 28), (most,) * 4)
    starts = torch.randint(2 * most + 1, (2, n, 1), device=device)
    rows, columns = starts + torch.arange(28, device=device)
    image = torch.arange(n, device=device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]].flatten(1)


def augment(images: Tensor) -> Tensor:
    """Images (n, 784), each shifted by up to 2 pixels and with a black square of 7 by 7 pixels.

    Done to real and generated images, it limits overfitting and does not leak into the samples:
    differentiable augmentation (Zhao et al. 2020), with cutout (DeVries and Taylor 2017).
    """
    shifted = random_shift(images, 2).view(-1, 28, 28)
    middle = torch.randint(28, (2, len(images), 1), device=images.device)
    rows, columns = (torch.arange(28, device=images.device) - middle).abs() <= 3
    return shifted.masked_fill(rows[:, :, None] & columns[:, None, :], 0).flatten(1)


def nearest_class(
    images: Tensor, real: Tensor, labels: Tensor, skip: int = 0
) -> tuple[Tensor, Tensor]:
    """The class (n,) of the nearest real image, and whether it is clear (n,).

    Real images (m, 784) have labels (m,). A class is clear if at least four of the five nearest
    agree. The `skip` nearest do not count: 1, if the images (n, 784) are among the real ones.
    """
    nearest = [torch.cdist(rows, real).topk(5 + skip, largest=False) for rows in images.split(256)]
    classes = labels[torch.cat([found.indices[:, skip:] for found in nearest])]
    return classes[:, 0], (classes == classes[:, :1]).sum(dim=1) >= 4


def check_classes(training: Training, data: Tensor, labels: Tensor) -> Tensor:
    """Adds class checks of 2,048 samples to the verdict; returns the class (2048,) of each."""
    some = torch.randperm(len(data), generator=common.stream("images compared"))[:2048]
    _, real_confident = nearest_class(data[some], data, labels, skip=1)
    classes, confident = nearest_class(training.samples[:2048, :784], data, labels)
    share, real_share = confident.float().mean().item(), real_confident.float().mean().item()
    words = f"{share:.0%} of generated images are clearly of one class, {real_share:.0%} of real"
    training.check(share >= MIN_CONFIDENT * real_share, words)
    training.metrics |= {"plain": share, "plain_of_real": real_share}
    training.check_missing(labels, classes[confident])
    return classes


def image_grid(images: Tensor, columns: int) -> np.ndarray:
    """Images (n, 784) as one grid with so many columns."""
    images = torch.cat([images, torch.zeros(-len(images) % columns, 784)])
    return images.view(-1, columns, 28, 28).transpose(1, 2).reshape(-1, 28 * columns).numpy()


def plot_images(training: Training, images: Tensor, columns: int, names: Sequence[str]) -> Figure:
    """Plots a grid of images (n, 784), the names of its rows, evenly spaced, and the history."""
    figure, axes = common.plot_history(training, [["images"] * 3])
    axes["images"].imshow(grid := image_grid(images, columns), cmap="gray", vmin=0, vmax=1)
    middles = np.linspace(0, len(grid), 2 * len(names) + 1)[1::2]
    axes["images"].set(xticks=[], yticks=middles, yticklabels=names)
    return figure


def plot_interpolations(images: Tensor, steps: int) -> Figure:
    """Plots interpolations, one per row; images (rows * steps, 784)."""
    figure = Figure(figsize=(0.6 * steps, 0.6 * len(images) / steps), dpi=120)
    figure.add_axes((0, 0, 1, 1)).imshow(image_grid(images, steps), cmap="gray", vmin=0, vmax=1)
    return figure


def animate_images(training: Training) -> bytes:
    """A GIF of 64 images, generated from the same noise in each epoch."""
    figure = Figure(figsize=(4, 4.2), layout="constrained")
    axes = figure.subplots(subplot_kw={"xticks": [], "yticks": []})
    grid = axes.imshow(np.zeros((224, 224)), cmap="gray", vmin=0, vmax=1)
    return common.animate(figure, training, lambda x: grid.set_data(image_grid(x[:64, :784], 8)))


def save_images(folder: Path, images: Tensor, form: str, named: Sequence[Path] = ()) -> None:
    """Saves images (n, 784) as PNG files, numbered or `named` like other files, or as one .npz."""
    pixels = (255 * images).round().byte().view(-1, 28, 28).numpy()
    if form == "npz":
        np.savez_compressed(folder.with_suffix(".npz"), images=pixels)
        return
    names = [path.stem for path in named] or [f"{i:05}" for i in range(len(pixels))]
    if len(set(names)) < len(names):  # of files in several folders
        names = [f"{i}-{name}" for i, name in enumerate(names, start=1)]
    folder.mkdir()
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")


def use_generator(options: Namespace, latent_dim: int, labels: Tensor | None = None) -> int:
    """Serves --generate and --interpolate; `labels` (m, classes) are appended to noise in turn."""
    labels = torch.empty(1, 0) if labels is None else labels
    model = common.load_model(options.out / "generator.pt", latent_dim + labels.shape[1], 784)
    generator = common.use_gpu(model, options)

    def generate(noise: Tensor, repeats: int = 1) -> Tensor:
        label = labels[torch.arange(len(noise)) // repeats % len(labels)]
        blocks = torch.cat([noise, label], dim=1).split(common.CHUNK)
        return torch.cat([generator(block) for block in blocks])

    with common.output_folder(options.out) as folder:
        if options.generate:
            random = common.stream("samples", options.seed)
            rows = generate(torch.randn(options.generate, latent_dim, generator=random))
            save_images(folder / "generated", rows, options.format)
        if options.interpolate:
            steps, random = options.interpolate, common.stream("walk", options.seed)
            walks = [common.interpolate(steps, latent_dim, 2, random) for _ in range(8)]
            rows, picture = generate(torch.cat(walks), steps), folder / "interpolation.png"
            common.save_picture(picture, plot_interpolations, rows, steps)
    return 0


def save_checkpoint(
    path: Path, settings: dict[str, Any], training: Training, batches: Batches, *parts: Any
) -> None:
    """Saves a training and its `parts`, networks and optimizers, to be resumed."""
    stopping, history = vars(training.stopping), [tuple(row) for row in training.history]
    states = [part.state_dict() for part in parts]
    random, device, content = [torch.get_rng_state()], batches.rows.device, io.BytesIO()
    if device.type == "cuda":
        random.append(torch.cuda.get_rng_state(device))
    torch.save([settings, stopping, history, states, batches.shuffled, random], content)
    partial = path.with_suffix(".partial")
    partial.write_bytes(content.getvalue())
    partial.replace(path)


def load_checkpoint(
    path: Path, settings: dict[str, Any], training: Training, batches: Batches, *parts: Any
) -> None:
    """Restores a training; Failure if it is unreadable, ValueError if its `settings` are others."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved_settings, stopping, history, states, shuffled, random = state
        for part, part_state in zip(parts, states, strict=True):
            part.load_state_dict(part_state)
        vars(training.stopping).update(stopping)
        training.history = [common.Evaluation(*row) for row in history]
        training.stopped = training.stopping.epoch >= training.stopping.last_epoch
        batches.shuffled = shuffled.to(batches.rows.device)
        torch.set_rng_state(random[0])
        if len(random) == 2:
            torch.cuda.set_rng_state(random[1], batches.rows.device)
    except Exception:  # torch raises many kinds of errors for files that it cannot read
        raise Failure(f"{path} is missing or damaged; omit --resume") from None
    if saved_settings != settings:
        raise InputError(f"{path} is of a training with {saved_settings}; omit --resume")


def join_processes(options: Namespace) -> None:
    """Under torchrun, joins the other processes; each has the CPU, or a GPU of its own."""
    if "LOCAL_RANK" not in os.environ:
        return
    device = common.choose_device(options.device)
    if device.type == "cuda":
        options.device = f"cuda:{(device.index or 0) + int(os.environ['LOCAL_RANK'])}"
        torch.cuda.set_device(common.choose_device(options.device))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    atexit.register(distributed.destroy_process_group)
    for number in (signal.SIGINT, signal.SIGTERM):  # a process that leaves would block the others
        signal.signal(number, lambda *_: SIGNALS.append(1))


def stop_together(training: Training, device: torch.device) -> bool:
    """Whether one of the processes was interrupted; if the training of one has stopped, all do."""
    flags = torch.tensor([training.stopped, bool(SIGNALS)], device=device).int()
    distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    training.stopped, interrupted = flags.bool().tolist()
    return interrupted
