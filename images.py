"""What the image scripts share, besides `common.py`: copy both along with the script.

Images are rows (n, 784) of 28 by 28 grey pixels, from 0, black, to 1, white. Pictures have any
number of channels, and other sizes: (n, channels, size, size).
"""

import atexit
import io
import json
import math
import os
import signal
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps  # installed with matplotlib
from torch import Tensor, distributed, nn
from torch.nn import functional
from tqdm import tqdm

import common
from common import Batches, Failure, Figure, InputError, Training

MAX_COPIES = 0.1  # largest good share of near-copies, above that of real pictures
LIMITS: dict = {"max_ratio": 1.2, "min_precision": 0.8, "min_coverage": 0.93}  # of good images
DETAIL_WEIGHTS = (12.0, 6.0, 3.0)  # with these, details of each scale vary about as colours do
MIN_CONFIDENT = 0.9  # smallest good share of confident images, relative to real ones
MIN_RIGHT = 0.95  # and of images of the requested class
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP"]  # of the files in a folder
SIZES, SHAPE = [28, 32, 64, 128], (1, 28, 28)  # of pictures; the shape of those in rows
SIGNALS: list[int] = []  # received under torchrun
# Pictures (n, channels, size, size) in 0..1, labels (n,), and the names of the labels
Labelled = tuple[Tensor, Tensor, list[str]]


def add_options(
    parser: ArgumentParser, gan: bool = True, files: str = "", folder: bool = False
) -> None:
    """Adds the options for images: your own `files`, or a `folder` of pictures to be learned."""
    add, sets = parser.add_argument, ["mnist", "fashion"]
    if files:
        own = "no training: use your own images, light on black; others are inverted"
        add(files, metavar="FILE", nargs="+", type=Path, default=[], help=own)
    if folder:
        sets.append("cifar10")
        add("--data", metavar="FOLDER", type=Path, help="learn the pictures in this folder")
        add("--resume", action="store_true", help="continue an interrupted training")
        size = "their size: 28, 32, 64 or 128 (32)"
        add("--size", metavar="N", type=int, choices=SIZES, help=size)
    add("--data-dir", metavar="DIR", type=Path, default=Path("data"), help="images (%(default)s)")
    if gan:
        add("--dataset", choices=sets, default="mnist", help=f"{', '.join(sets)} (%(default)s)")
        add("--format", choices=["png", "npz"], default="png", help="of images (%(default)s)")


def load_dataset(dataset: str, folder: Path | str, train: bool = True) -> Labelled:
    """The pictures of "mnist", "fashion" or "cifar10", downloaded if they are missing."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError):  # it is missing, or made for another torch
        raise Failure("images need torchvision; pip install torchvision") from None
    kinds = {"mnist": "MNIST", "fashion": "FashionMNIST", "cifar10": "CIFAR10"}
    kind = getattr(datasets, kinds[dataset])
    try:
        data = kind(folder, train=train, download=True)
    except (AssertionError, ValueError, RuntimeError, OSError):
        if dataset == "cifar10":
            source, files = kind.url, kind.filename
        else:
            source, parts = " or ".join(kind.mirrors), [name for name, _ in kind.resources]
            files = f"{kind.__name__}/raw/{', '.join(parts)}"
        reason = f"no download from {source}, or damaged files in {folder}"
        remedy = f"delete these, or choose another --data-dir with {files}"
        raise Failure(f"cannot load images: {reason}; {remedy}") from None
    pixels = torch.as_tensor(data.data).float() / 255
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    names = [name.split(" - ")[0] for name in data.classes]  # "0 - zero" is "0"
    return pixels, torch.as_tensor(data.targets), names


def load_images(dataset: str, folder: Path | str, train: bool = True) -> tuple[Tensor, Tensor]:
    """Rows (n, pixels) and labels (n,) of a data set, as `load_dataset`."""
    pictures, labels, _ = load_dataset(dataset, folder, train)
    return pictures.flatten(1), labels


def load_folder(folder: Path | str, size: int, labelled: bool = False) -> Labelled:
    """The pictures in a folder, in random order; the names of their labels are its subfolders.

    If all are grey, they have one channel. Those that are in no subfolder have the folder's name,
    or are left out if `labelled`. ValueError for fewer than 10 pictures, or 2 labels if `labelled`.
    """
    folder, pixels, named, skipped = Path(folder).resolve(), [], [], []
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    for path in sorted(folder.glob("*/**/*" if labelled else "**/*")):
        parts = path.relative_to(folder).parts
        if path.is_dir() or any(part.startswith(".") for part in parts):
            continue
        try:
            pixels.append(read_picture(path, size))
            named.append(parts[0] if len(parts) > 1 else folder.name)
        except Exception:  # Pillow raises many kinds of errors for files that it cannot read
            skipped.append(path.name)
    if skipped:
        reason = f"files that are not pictures, or damaged, such as {skipped[0]}"
        print(f"Skipped {len(skipped):,} {reason}", file=sys.stderr)
    names, labels = np.unique(named, return_inverse=True)
    if len(pixels) < 10 or (labelled and len(names) < 2):
        wanted = f"10 ({', '.join(FORMATS)}) are needed" + ", in 2 subfolders" * labelled
        where = f" in {len(names)} of its subfolders, which are labels" * labelled
        raise InputError(f"{folder} has {len(pixels)} pictures{where}; at least {wanted}")
    pictures = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    channels = 1 if (pictures == pictures[:, :1]).all() else 3
    mixed = torch.randperm(len(pictures), generator=common.stream("order of pictures"))
    pictures = pictures[mixed, :channels].contiguous().float() / 255
    return pictures, torch.from_numpy(labels)[mixed], names.tolist()


def load_data(options: Namespace, labelled: bool = False) -> Labelled:
    """The pictures of --data, as `load_folder`, or of --dataset."""
    if labelled and options.label:
        raise InputError("--label chooses what to generate; give --generate or --interpolate too")
    if options.data:
        return load_folder(options.data, options.size or 32, labelled)
    if options.size:
        raise InputError("--size is for the pictures of --data")
    return load_dataset(options.dataset, options.data_dir)


def open_image(path: Path, formats: list[str] | None = None) -> Image.Image:
    """An image file as RGBA with 8 bits per channel, turned as its EXIF says."""
    with Image.open(path, formats=formats) as file, warnings.catch_warnings(action="ignore"):
        file.draft("RGB", (256, 256))  # decodes a large JPEG faster
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # 16 bits
            image = Image.fromarray((np.asarray(image) / 257).astype(np.uint8))
        return image.convert("RGBA")


def read_picture(path: Path, size: int) -> np.ndarray:
    """A file as pixels (size, size, 3) in 0..255: on white, cut to a central square."""
    image = open_image(path, FORMATS)
    on_white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(ImageOps.fit(on_white.convert("RGB"), (size, size)))


def read_image(path: Path) -> Tensor:
    """An image file as a row (1, 784), shrunk to 28 by 28 pixels.

    An image with a bright border is dark on white: it is inverted, and standard error says so.
    """
    try:
        shrunk = np.asarray(open_image(path).convert("LA").resize((28, 28)), dtype=np.float32)
    except Exception as error:  # Pillow raises many kinds of errors for files that it cannot read
        reason = getattr(error, "strerror", None) or "it is not an image"
        raise Failure(f"cannot read {path}: {reason}") from None
    pixels, opacity = torch.from_numpy(shrunk / 255).unbind(dim=2)
    # A transparent background gets the brightness that the drawing does not have
    background = float((opacity * pixels).sum() < opacity.sum() / 2)
    pixels = opacity * pixels + (1 - opacity) * background
    if torch.cat([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean() > 0.5:
        print(f"{path} is dark on white, so it was inverted", file=sys.stderr)
        pixels = 1 - pixels
    return pixels.reshape(1, -1)


def as_pictures(images: Tensor, shape: Sequence[int] = SHAPE) -> Tensor:
    """Rows (n, pixels) as pictures of a shape; pictures as they are."""
    return images if images.ndim == 4 else images.unflatten(1, shape)


def check_images(data: Any, more: int = 0, shape: Sequence[int] = SHAPE) -> Tensor:
    """Pictures of a shape as rows (n, pixels + `more`) in 0..1, float32, CPU; or ValueError."""
    if tuple(shape) not in [(channels, size, size) for channels in (1, 3) for size in SIZES]:
        wanted = f"(1 or 3 channels, size, size), with size {', '.join(map(str, SIZES))}"
        raise InputError(f"a picture must have the shape {wanted}, not {tuple(shape)}")
    rows = common.as_rows(data if np.ndim(data) != 4 else torch.as_tensor(data).flatten(1)).float()
    columns = math.prod(shape) + more
    if rows.shape[1] != columns:
        wanted = f"{columns} columns, for {shape[1]} by {shape[2]} pixels"
        wanted += f" and {more} more" if more else ""
        raise InputError(f"data must have {wanted}, not {rows.shape[1]}")
    if rows.min() < 0 or rows.max() > 1:
        raise InputError(f"data must lie in 0..1, not {rows.min():g}..{rows.max():g}")
    return rows


def doublings(shape: tuple[int, ...], width: int) -> tuple[int, list[int]]:
    """The side of the smallest feature maps, 7 or 8, and the channels from there to the picture.

    Each next one has twice the side and half the channels; the last before the picture, `width`.
    """
    steps = int(math.log2(shape[1] // 7))
    return shape[1] >> steps, [*(width << i for i in reversed(range(steps))), shape[0]]


def image_features(rows: Tensor, shape: Sequence[int] = SHAPE) -> Tensor:
    """What the distance of images compares: rows (n, pixels + more) as (n, features).

    The mean colours of a picture in 8 by 8 cells tell what is where; the mean strength of details
    in 2 by 2 cells tells blur and noise: absolute second differences, in the picture and in its
    halves and quarters (local energies at several scales: Heeger and Bergen 1995; for GANs, on
    patches: Karras et al. 2018). Columns that follow the pixels of one picture stay as they are.
    """
    blocks = []
    for block in rows.flatten(1).split(500):  # to save memory
        pixels, more = block.tensor_split([math.prod(shape)], dim=1)
        pictures = pixels.unflatten(1, shape)
        features = [functional.adaptive_avg_pool2d(pictures, 8)]
        for weight in DETAIL_WEIGHTS:
            for details in (pictures.diff(2, dim=2), pictures.diff(2, dim=3)):
                features.append(weight * functional.adaptive_avg_pool2d(details.abs(), 2))
            pictures = functional.avg_pool2d(pictures, 2)
        blocks.append(torch.cat([*(part.flatten(1) for part in features), more], dim=1))
    return torch.cat(blocks)


def random_shift(images: Tensor, most: int) -> Tensor:
    """Images or pictures, each randomly shifted by up to `most` pixels along each axis."""
    pictures = as_pictures(images)
    starts = torch.randint(2 * most + 1, (2, len(images), 1), device=images.device)
    rows, columns = starts + torch.arange(pictures.shape[2], device=images.device)
    padded = functional.pad(pictures, (most,) * 4)
    shifted = padded.take_along_dim(rows[:, None, :, None], dim=2)  # faster than slices
    return shifted.take_along_dim(columns[:, None, None], dim=3).reshape(images.shape)


def augment(images: Tensor) -> Tensor:
    """Images or pictures, each shifted a little, and with a black square a quarter as wide.

    Done to real and generated images, it limits overfitting and does not leak into the samples:
    differentiable augmentation (Zhao et al. 2020), with cutout (DeVries and Taylor 2017).
    """
    pictures = as_pictures(images)
    size = pictures.shape[2]
    shifted = random_shift(pictures, size // 14)
    middle = torch.randint(size, (2, len(images), 1), device=images.device)
    rows, columns = (torch.arange(size, device=images.device) - middle).abs() <= size // 8
    hidden = rows[:, None, :, None] & columns[:, None, None, :]
    return shifted.masked_fill(hidden, 0).reshape(images.shape)


def nearest_images(images: Tensor, real: Tensor, skip: int = 0) -> tuple[Tensor, Tensor]:
    """Distances (n, 6) of images (n, pixels) to the nearest real ones, and their indices.

    The `skip` nearest do not count: 1, if the images are among the real ones.
    """
    found = [torch.cdist(rows, real).topk(6 + skip, largest=False) for rows in images.split(256)]
    distances, indices = zip(*found, strict=True)
    return torch.cat(distances)[:, skip:], torch.cat(indices)[:, skip:]


def nearest_class(
    images: Tensor, real: Tensor, labels: Tensor, skip: int = 0
) -> tuple[Tensor, Tensor]:
    """The class (n,) of the nearest real image, and whether it is clear (n,).

    Real images (m, 784) have labels (m,). A class is clear if at least four of the five nearest
    agree. `skip` is that of `nearest_images`.
    """
    classes = labels[nearest_images(images, real, skip)[1][:, :5]]
    return classes[:, 0], (classes == classes[:, :1]).sum(dim=1) >= 4


def check_classes(
    training: Training, data: Tensor, labels: Tensor, names: Sequence[str] | None = None,
    requested: Tensor | None = None,
) -> None:  # fmt: skip
    """Adds class checks of up to 2,048 samples to the verdict, if there are several classes.

    The `requested` labels (n,) of samples are compared with their classes.
    """
    if int(labels.max()) == 0:
        return
    data = data.flatten(1)
    some = torch.randperm(len(data), generator=common.stream("images compared"))[:2048]
    real_classes, real_confident = nearest_class(data[some], data, labels, skip=1)
    samples = training.samples[:2048].flatten(1)[:, : data.shape[1]]
    classes, confident = nearest_class(samples, data, labels)
    share, real_share = confident.float().mean().item(), real_confident.float().mean().item()
    words = f"{share:.0%} of generated images are clearly of one class, {real_share:.0%} of real"
    training.check(share >= MIN_CONFIDENT * real_share, words)
    training.metrics |= {"plain": share, "plain_of_real": real_share}
    training.check_missing(labels, classes[confident], names)
    if requested is not None:
        right = (classes == requested[: len(classes)]).float().mean().item()
        real_right = (real_classes == labels[some]).float().mean().item()
        words = f"{right:.0%} are nearest to a real image of the requested class"
        training.check(right >= MIN_RIGHT * real_right, f"{words}, {real_right:.0%} of real")


def check_copies(training: Training, data: Tensor, folder: Path) -> None:
    """Adds the share of near-copies to the verdict; draws samples beside the nearest real pictures.

    A near-copy is less than half as far from the nearest real picture as from the next five, on
    average (after Carlini et al. 2023). Some real ones are near-copies of others.
    """
    real, pictures = data.flatten(1), training.samples[:1024]
    some = torch.randperm(len(data), generator=common.stream("pictures compared"))[:1024]
    distances, nearest = nearest_images(pictures.flatten(1), real)
    both = distances, nearest_images(real[some], real, skip=1)[0]
    near = [each[:, 0] < each[:, 1:].mean(dim=1) / 2 for each in both]
    share, real_share = (each.float().mean().item() for each in near)
    good = share <= real_share + MAX_COPIES
    if not good:
        training.advice = "Try more pictures, or fewer --epochs."
    words = f"{share:.0%} of generated pictures are near-copies of real ones"
    training.check(good, f"{words}, {real_share:.0%} of real")
    training.metrics |= {"copies": share, "copies_among_real": real_share}
    pairs = torch.stack([pictures[:16], data[nearest[:16, 0]]], dim=1).flatten(0, 1)
    common.save_picture(folder / "copies.png", plot_grid, pairs, 8)


def image_grid(images: Tensor, columns: int) -> np.ndarray:
    """Images or pictures as one grid with so many columns; (height, width), or with channels."""
    pictures = as_pictures(images)
    blank = pictures.new_zeros(-len(pictures) % columns, *pictures.shape[1:])
    grid = torch.cat([pictures, blank]).unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2)
    return grid.flatten(2, 3).flatten(0, 1).squeeze(2).numpy()


def plot_images(training: Training, images: Tensor, columns: int, names: Sequence[str]) -> Figure:
    """Plots a grid of images, the names of its rows, evenly spaced, and the history."""
    figure, axes = common.plot_history(training, [["images"] * 3])
    axes["images"].imshow(grid := image_grid(images, columns), cmap="gray", vmin=0, vmax=1)
    middles = np.linspace(0, len(grid), 2 * len(names) + 1)[1::2]
    axes["images"].set(xticks=[], yticks=middles, yticklabels=names)
    return figure


def plot_grid(images: Tensor, columns: int) -> Figure:
    """Plots a grid of images with so many columns, and nothing else."""
    figure = Figure(figsize=(0.6 * columns, 0.6 * len(images) / columns), dpi=120)
    figure.add_axes((0, 0, 1, 1)).imshow(image_grid(images, columns), cmap="gray", vmin=0, vmax=1)
    return figure


def save_figures(
    folder: Path, training: Training, images: Tensor, columns: int, names: Sequence[str],
    animate: bool,
) -> None:  # fmt: skip
    """Saves samples.png, as `plot_images`; with `animate`, also a GIF of the training."""
    figure, shape = (training, images, columns, names), as_pictures(images).shape[1:]
    common.save_picture(folder / "samples.png", plot_images, *figure)
    if animate and training.snapshots:  # none, if it was resumed at its end
        common.save_picture(folder / "training.gif", animate_images, training, shape)


def animate_images(training: Training, shape: Sequence[int]) -> bytes:
    """A GIF of 64 images of a shape, generated from the same noise in each epoch."""
    figure = Figure(figsize=(4, 4.2), layout="constrained")
    axes = figure.subplots(subplot_kw={"xticks": [], "yticks": []})

    def draw(samples: Tensor) -> None:
        rows = samples[:64].flatten(1)[:, : math.prod(shape)]
        axes.imshow(image_grid(as_pictures(rows, shape), 8), cmap="gray", vmin=0, vmax=1)

    return common.animate(figure, training, draw)


def save_images(folder: Path, images: Tensor, form: str, named: Sequence[Path] = ()) -> None:
    """Saves images as PNG files, numbered or `named` like other files, or as one .npz."""
    pixels = (255 * as_pictures(images)).round().byte().permute(0, 2, 3, 1).squeeze(3).numpy()
    if form == "npz":
        np.savez_compressed(folder.with_suffix(".npz"), images=pixels)
        return
    names = [path.stem for path in named] or [f"{i:05}" for i in range(len(pixels))]
    if len(set(names)) < len(names):  # of files in several folders
        names = [f"{i}-{name}" for i, name in enumerate(names, start=1)]
    folder.mkdir()
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")


def save_names(generator: nn.Module, names: Sequence[str]) -> None:
    """Keeps the names of labels in a buffer of the generator, which is saved with it."""
    content = json.dumps(list(names)).encode()
    generator.register_buffer("names", torch.tensor(list(content), dtype=torch.uint8))


def label_rows(generator: nn.Module, label: str | None) -> Tensor:
    """The label of that name or number, one-hot; without one, all of them; or ValueError."""
    names = json.loads(bytes(dict(generator.named_buffers()).get("names", b"[]")))
    if not names:
        raise Failure("the saved generator has no labels; train again")
    if not label:
        return torch.eye(len(names))
    known = [*names, *(name.lower() for name in names), *map(str, range(len(names)))]
    spelling = label if label in known else label.lower()
    if spelling not in known:
        raise InputError(f"--label can be {', '.join(names)}, not {label}")
    return torch.eye(len(names))[[known.index(spelling) % len(names)]]


def use_generator(options: Namespace, latent_dim: int, labelled: bool = False) -> int:
    """Serves --generate and --interpolate; if `labelled`, for --label, or all labels in turn."""
    if getattr(options, "data", None):
        raise InputError("--data is for training; leave it out to use the saved generator")
    model = common.load_model(options.out / "generator.pt", None if labelled else latent_dim)
    labels = label_rows(model, options.label) if labelled else torch.empty(1, 0)
    generator = common.use_gpu(model, options)

    def generate(noise: Tensor, repeats: int = 1) -> Tensor:
        label = labels[torch.arange(len(noise)) // repeats % len(labels)]
        blocks = torch.cat([noise, label], dim=1).split(256)  # more would take memory
        return torch.cat([generator(block) for block in blocks])

    with common.output_folder(options.out) as folder:
        if options.generate:
            random = common.stream("samples", options.seed)
            images = generate(torch.randn(options.generate, latent_dim, generator=random))
            save_images(folder / "generated", images, options.format)
        if options.interpolate:
            steps, random = options.interpolate, common.stream("walk", options.seed)
            rows = max(8, len(labels))  # one for each label
            walks = [common.interpolate(steps, latent_dim, 2, random) for _ in range(rows)]
            images, picture = generate(torch.cat(walks), steps), folder / "interpolation.png"
            common.save_picture(picture, plot_grid, images, steps)
    return 0


def epochs(
    training: Training, checkpoint: Path | None, resume: bool, batches: Batches, *parts: Any
) -> Iterator[int]:
    """Counts the epochs of a training, and saves each one to `checkpoint`, or to none.

    `parts` are its networks and optimizers. To `resume`, it restores what was saved: Failure if the
    file is unreadable, ValueError if it is of other data or settings. Under torchrun, all processes
    stop after the same epoch, if one of them stops or is interrupted.
    """
    stopping, device = training.stopping, batches.rows.device
    gpus = [device] * (device.type == "cuda")
    settings = {
        "seed": training.metrics["seed"], "epochs": stopping.last_epoch,
        "patience": stopping.patience, "lr": parts[-1].param_groups[0]["lr"],
        "batch size": batches.size, "pixels": int(training.train_rows.sum(dtype=torch.float64)),
    }  # fmt: skip
    if checkpoint and resume:
        try:
            saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
            if saved["settings"] != settings:
                wanted = f"of other data, or of {saved['settings']}"
                raise InputError(f"{checkpoint} is {wanted}; omit --resume")
            for part, state in zip(parts, saved["parts"], strict=True):
                part.load_state_dict(state)
            vars(stopping).update(saved["stopping"])
            training.history = [common.Evaluation(*row) for row in saved["history"]]
            training.stopped = stopping.epoch >= stopping.last_epoch
            batches.shuffled = saved["shuffled"].to(device)
            torch.set_rng_state(saved["random"])
            for gpu, state in zip(gpus, saved["gpu_random"], strict=False):
                torch.cuda.set_rng_state(state, gpu)
        except InputError:
            raise
        except Exception:  # torch raises many kinds of errors for files that it cannot read
            raise Failure(f"{checkpoint} is missing or damaged; omit --resume") from None
    for epoch in training.epochs():
        yield epoch
        if checkpoint and not stopping.diverged:
            content = io.BytesIO()
            state = {
                "settings": settings, "stopping": vars(stopping), "shuffled": batches.shuffled,
                "history": [tuple(row) for row in training.history],
                "parts": [part.state_dict() for part in parts], "random": torch.get_rng_state(),
                "gpu_random": [torch.cuda.get_rng_state(gpu) for gpu in gpus],
            }  # fmt: skip
            torch.save(state, content)
            partial = checkpoint.with_suffix(".partial")
            partial.write_bytes(content.getvalue())
            partial.replace(checkpoint)
        if distributed.is_available() and distributed.is_initialized():
            flags = torch.tensor([training.stopped, bool(SIGNALS)], device=device).int()
            distributed.all_reduce(flags, distributed.ReduceOp.MAX)
            training.stopped, interrupted = flags.bool().tolist()
            if interrupted:
                return


def take(batches: Batches, count: int, progress: bool) -> Iterable[Tensor]:
    """The next `count` batches, with a progress bar if they take more than five seconds."""
    some, hidden = islice(batches, count), not progress
    return tqdm(some, total=count, unit="batch", leave=False, delay=5, disable=hidden)


def report(training: Training, options: Namespace, checkpoint: Path | None) -> int:
    """Prints the outcome; removes the checkpoint of a training that has ended."""
    if checkpoint and training.interrupted:
        print("Add --resume to continue.", file=sys.stderr)
    elif checkpoint:
        checkpoint.unlink(missing_ok=True)
    return common.report(training, options)


def join_processes(options: Namespace) -> None:
    """Under torchrun, joins the other processes; each has the CPU, or a GPU of its own."""
    if "LOCAL_RANK" not in os.environ:
        return
    if options.resume:
        raise InputError("--resume is for a single process")
    device = common.choose_device(options.device)
    if device.type == "cuda":
        options.device = f"cuda:{(device.index or 0) + int(os.environ['LOCAL_RANK'])}"
        torch.cuda.set_device(common.choose_device(options.device))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    atexit.register(distributed.destroy_process_group)

    def stop(number: int, _: Any) -> None:
        if SIGNALS:
            raise KeyboardInterrupt
        SIGNALS.append(number)  # the epoch ends first: a process that leaves blocks the others

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
