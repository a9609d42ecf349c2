"""What the image scripts share: copy this file, common.py and cli.py along with the script.

Pictures are tensors (n, channels, height, width) of numbers from 0, black, to 1, white. Sections:
options, reading pictures, training, distance, checks, drawing, a saved generator, resuming.
"""

import functools
import io
import json
import math
import shutil
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps  # installed with matplotlib
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

import cli
import common
from common import Batches, Evaluation, Failure, Figure, InputError, Training

SIZES = (28, 32, 64, 128)  # of pictures, in pixels
# How long the training of dcgan.py takes, on colour pictures; for 128, estimated from one batch
TIMES = "12 minutes for 28 or 32 on two CPU cores, an hour for 64, 5 hours for 128"
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP"]  # of the files in a folder
THREADS = 4  # that read pictures: each has a large one in memory

# --- Options -----------------------------------------------------------------------------------


def add_data_options(parser: ArgumentParser, datasets: Sequence[str]) -> None:
    """Adds --data-dir and, if there is a choice, --dataset."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        default=Path("data"),
        help="folder of the downloaded pictures (%(default)s)",
    )
    if len(datasets) > 1:
        parser.add_argument(
            "--dataset",
            choices=datasets,
            default=datasets[0],
            help=f"{', '.join(datasets)} (%(default)s)",
        )


def add_folder_options(parser: ArgumentParser) -> None:
    """Adds --data and --size, to learn the pictures in a folder."""
    parser.add_argument(
        "--data", metavar="FOLDER", type=cli.folder, help="learn the pictures in this folder"
    )
    sizes = ", ".join(map(str, SIZES))
    parser.add_argument(
        "--size",
        metavar="N",
        type=int,
        choices=SIZES,
        help=f"their size: {sizes} (32); training takes about {TIMES}",
    )


def require_matching_options(options: Namespace) -> None:
    """Raises InputError if --size would have no effect."""
    if options.size and not options.data:
        raise InputError("--size is for the pictures of --data")


def source(options: Namespace) -> dict[str, Any]:
    """Where the pictures to be learned come from: arguments of `load`."""
    return {
        "dataset": options.dataset,
        "data_dir": options.data_dir,
        "folder": options.data,
        "size": options.size or 32,
        "progress": not options.quiet,
    }


# --- Reading pictures --------------------------------------------------------------------------


class Labelled(NamedTuple):
    """Pictures with labels."""

    pictures: Tensor  # (n, channels, height, width)
    labels: Tensor  # (n,), indices into the names
    names: list[str]


def load(
    dataset: str,
    data_dir: Path | str,
    folder: Path | str | None = None,
    size: int = 32,
    labelled: bool = False,
    progress: bool = True,
) -> Labelled:
    """The pictures in a folder, as `load_folder` reads them; without one, those of a data set."""
    if folder:
        return load_folder(folder, size, labelled, progress)
    return load_dataset(dataset, data_dir)


@functools.cache
def load_dataset(dataset: str, data_dir: Path | str, train: bool = True) -> Labelled:
    """The pictures of "mnist", "fashion" or "cifar10", downloaded if they are missing.

    Without `train`, those for testing. Failure if they cannot be loaded.
    """
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError):  # it is missing, or made for another torch
        raise Failure("images need torchvision; pip install torchvision") from None
    classes = {"mnist": "MNIST", "fashion": "FashionMNIST", "cifar10": "CIFAR10"}
    dataset_class = getattr(datasets, classes[dataset])
    try:
        data = dataset_class(data_dir, train=train, download=True)
    except (AssertionError, ValueError, RuntimeError, OSError):
        source, files = download_source(dataset_class)
        reason = f"no download from {source}, or damaged files in {data_dir}"
        remedy = f"delete these, or choose another --data-dir with {files}"
        raise Failure(f"cannot load images: {reason}; {remedy}") from None
    pictures = torch.as_tensor(data.data).float() / 255
    if pictures.ndim == 3:  # grey
        pictures = pictures.unsqueeze(1)
    else:
        pictures = pictures.permute(0, 3, 1, 2).contiguous()
    names = [name.partition(" - ")[0] for name in data.classes]  # "0 - zero" is "0"
    return Labelled(pictures, torch.as_tensor(data.targets), names)


def download_source(dataset_class: Any) -> tuple[str, str]:
    """Where torchvision downloads a data set from, and the files that it needs."""
    if dataset_class.__name__ == "CIFAR10":
        return dataset_class.url, dataset_class.filename
    files = ", ".join(name for name, _ in dataset_class.resources)
    return " or ".join(dataset_class.mirrors), f"{dataset_class.__name__}/raw/{files}"


@functools.cache
def load_folder(
    folder: Path | str, size: int, labelled: bool = False, progress: bool = True
) -> Labelled:
    """The pictures in a folder; their labels are its subfolders.

    If all are grey, they have one channel. Those that are in no subfolder have the folder's name
    or, if `labelled`, are left out. InputError for fewer than 10 pictures or, if `labelled`, for
    fewer than 2 subfolders.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    files = files_in(folder)
    if labelled:
        beside = [file.relative_to(folder) for file in files if file.parent == folder]
        files = [file for file in files if file.parent != folder]
        if beside:
            print(f"Left out {count_files(beside)}: in no subfolder, so no label", file=sys.stderr)
    pixels = []
    subfolders = []
    skipped = []
    for file, picture in zip(files, read_pictures(files, size, progress), strict=True):
        place = file.relative_to(folder)
        if picture is None:
            skipped.append(place)
        else:
            pixels.append(picture)
            subfolders.append(place.parts[0] if len(place.parts) > 1 else folder.name)
    names = sorted(set(subfolders))
    require_enough_pictures(folder, len(pixels), len(names), labelled, skipped)
    if skipped:
        reason = f"damaged, or not {', '.join(FORMATS)}"
        print(f"Skipped {count_files(skipped)}: {reason}", file=sys.stderr)
    pictures = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    if (pictures == pictures[:, :1]).all():  # grey
        pictures = pictures[:, :1]
    labels = torch.tensor([names.index(name) for name in subfolders])
    return Labelled(pictures.contiguous().float().div_(255), labels, names)


def files_in(folder: Path) -> list[Path]:
    """The files in a folder and its subfolders; no hidden ones."""
    files = []
    for path in sorted(folder.glob("**/*")):
        place = path.relative_to(folder).parts
        hidden = any(name.startswith(".") for name in place)
        if path.is_file() and not hidden:
            files.append(path)
    return files


def count_files(files: Sequence[Path]) -> str:
    """How many files there are, with the names of the first ones."""
    names = ", ".join(map(str, files[:5]))
    if len(files) == 1:
        return f"1 file, {names}"
    return f"{len(files):,} files, {'such as ' if len(files) > 5 else ''}{names}"


def require_enough_pictures(
    folder: Path, pictures: int, names: int, labelled: bool, skipped: Sequence[Path]
) -> None:
    """InputError for fewer than 10 pictures or, if `labelled`, for fewer than 2 subfolders."""
    found = f"{folder} has {pictures} pictures"
    wanted = f"at least 10 ({', '.join(FORMATS)}) are needed"
    if labelled:
        found += f" in {names} of its subfolders, which are labels"
        wanted += ", in 2 subfolders"
    if skipped:
        wanted += f"; skipped {count_files(skipped)}"
    if pictures < 10 or (labelled and names < 2):
        raise InputError(f"{found}; {wanted}")


def read_pictures(files: Sequence[Path], size: int, progress: bool) -> list[np.ndarray | None]:
    """The files as `read_picture` gives them, or None for those that it cannot read."""

    def read(file: Path) -> np.ndarray | None:
        try:
            return read_picture(file, size)
        except Exception:  # Pillow raises many kinds of errors for files that it cannot read
            return None

    bar = {"desc": "Reading", "unit": "picture", "leave": False, "disable": not progress}
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(THREADS) as pool:
        return list(tqdm(pool.map(read, files), total=len(files), **bar))


def open_image(path: Path, formats: list[str] | None = None) -> Image.Image:
    """An image file as RGB or, if it has transparency, as RGBA, turned as its EXIF says."""
    with Image.open(path, formats=formats) as file:
        file.draft("RGB", (256, 256))  # decodes a large JPEG faster, and smaller
        ImageOps.exif_transpose(file, in_place=True)
        if file.mode.startswith("I"):  # 16 bits
            return Image.fromarray((np.asarray(file) / 257).astype(np.uint8)).convert("RGB")
        is_transparent = "A" in file.getbands() or "transparency" in file.info
        return file.convert("RGBA" if is_transparent else "RGB")


def read_picture(path: Path, size: int) -> np.ndarray:
    """A file as pixels (size, size, 3) in 0..255: on white, cut to a central square."""
    picture = ImageOps.fit(open_image(path, FORMATS), (size, size)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


def read_grey(path: Path) -> Tensor:
    """A file as a grey picture (1, 1, 28, 28), light on black; Failure if it cannot be read.

    One with a bright border is dark on white: it is inverted, and standard error says so.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            image = open_image(path).convert("LA").resize((28, 28))
    except Exception as error:  # Pillow raises many kinds of errors for files that it cannot read
        reason = getattr(error, "strerror", None) or "it is not an image"
        raise Failure(f"cannot read {path}: {reason}") from None
    brightness, opacity = torch.from_numpy(np.array(image) / 255).float().unbind(dim=2)
    # A transparent ground becomes black, or white if what is drawn on it is dark
    mean_brightness = (opacity * brightness).sum() / opacity.sum()
    ground = 1.0 if mean_brightness < 0.5 else 0.0
    picture = opacity * brightness + (1 - opacity) * ground
    border = torch.cat([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    if border.mean() > 0.5:
        print(f"{path} is dark on white, so it was inverted", file=sys.stderr)
        picture = 1 - picture
    return picture.reshape(1, 1, 28, 28)


def as_pictures(
    data: Any, channels: Sequence[int] = (1, 3), sizes: Sequence[int] = SIZES
) -> Tensor:
    """Pictures (n, channels, size, size) in 0..1 as float32 on the CPU; InputError for others."""
    counts = " or ".join(map(str, channels))
    wanted = f"data must be n pictures ({counts} channels, size, size)"
    wanted += f" with size {', '.join(map(str, sizes))}"
    try:
        pictures = torch.as_tensor(data).detach().cpu().float()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{wanted}, as numbers") from None
    shape = tuple(pictures.shape)
    allowed = [(count, size, size) for count in channels for size in sizes]
    if shape[1:] not in allowed or shape[0] == 0:
        raise InputError(f"{wanted}, not of the shape {shape}")
    low, high = pictures.aminmax()
    if not (low >= 0 and high <= 1):  # also NaN
        raise InputError(f"pictures must lie in 0..1, not {low:g}..{high:g}")
    return pictures


def as_labels(data: Any, pictures: int, classes: int) -> Tensor:
    """Labels (pictures,) in 0..classes - 1 as int64 on the CPU; InputError for others."""
    wanted = f"labels must be integers from 0 to {classes - 1}, one for each picture"
    try:
        labels = torch.as_tensor(data).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(wanted) from None
    known = torch.isin(labels, torch.arange(classes)).all()
    if labels.shape != (pictures,) or not known:
        raise InputError(wanted)
    return labels.long()


# --- Training ----------------------------------------------------------------------------------


def limit_batch_size(batch_size: int, pictures: int) -> int:
    """At most all pictures, and at least the two that batch norm needs; or InputError."""
    common.require_count("batch_size", batch_size)
    return max(2, min(batch_size, pictures))


MAX_PASSES = 64  # over the pictures, in an epoch
PENALTY = 4.0  # weight of the gradient penalty at first
FEW = 1000  # pictures, for which the penalty rises to four times its weight
LEAST_PENALTY = 0.04  # at the end, for 8,000 or more
MANY = 5000  # pictures, too many to be learned by heart


def penalty_weight(pictures: Tensor, done: float) -> float:
    """Weight of the gradient penalty when a share of the training is done, from 0 to 1.

    It falls for many pictures, as finer and finer details are to be learned. It rises for few: the
    discriminator would learn them by heart, and the generated ones would become pale and alike.
    It is larger for large pictures, as the gradient by a pixel falls with their number.
    """
    last = max(4 * PENALTY * min(1, FEW / len(pictures)) ** 3, LEAST_PENALTY)  # 3: by trial
    weight = PENALTY * (last / PENALTY) ** done  # by the same factor in each epoch
    return weight * enlargement(pictures) ** 2


def learning_rate(lr: float, pictures: Tensor, done: float) -> float:
    """The learning rate when a share of the training is done, from 0 to 1: it falls to 0.

    It is lower for large pictures: their networks would lose at once what they have learned.
    """
    return lr / enlargement(pictures) * (1 - done)


def enlargement(pictures: Tensor) -> float:
    """How many times as wide as 32 pixels pictures are, at least 1."""
    return max(1, pictures.shape[-1] / 32)


def steps_of_epoch(most: int, batches: Batches, progress: bool) -> Iterable[int]:
    """Counts the steps of an epoch, at most so many, with a progress bar.

    Few pictures are seen at most 64 times in it: more often, and they would be learned by heart.
    """
    steps = min(most, math.ceil(MAX_PASSES * len(batches.rows) / batches.size))
    return tqdm(range(steps), unit="batch", leave=False, disable=not progress)


def random_shift(pictures: Tensor, most: int) -> Tensor:
    """Pictures, each randomly shifted by up to `most` pixels along each axis.

    Borders are repeated, to fill the margins.
    """
    starts = torch.randint(2 * most + 1, (2, len(pictures), 1), device=pictures.device)
    rows, columns = starts + torch.arange(pictures.shape[2], device=pictures.device)
    padded = functional.pad(pictures, (most, most, most, most), mode="replicate")
    shifted = padded.take_along_dim(rows[:, None, :, None], dim=2)  # faster than slices
    return shifted.take_along_dim(columns[:, None, None, :], dim=3)


def augment(pictures: Tensor, cutout: bool = True) -> Tensor:
    """Pictures, each shifted a little and, with `cutout`, with a square of it hidden.

    The square is a quarter as wide as the picture, and filled with the mean colour. So the
    discriminator cannot learn the real ones by heart. The generator does not learn shifts or
    squares, as what it makes gets them too: differentiable augmentation (Zhao et al. 2020), with
    cutout (DeVries and Taylor 2017).
    """
    size = pictures.shape[2]
    shifted = random_shift(pictures, size // 14)
    if not cutout:
        return shifted
    middle = torch.randint(size, (2, len(pictures), 1), device=pictures.device)
    distance = (torch.arange(size, device=pictures.device) - middle).abs()
    rows, columns = distance <= size // 8
    hidden = rows[:, None, :, None] & columns[:, None, None, :]
    mean = pictures.detach().mean(dim=(0, 2, 3), keepdim=True)
    return torch.where(hidden, mean, shifted)


# --- Distance ----------------------------------------------------------------------------------

DETAIL_WEIGHTS = (12.0, 6.0, 3.0)  # with these, details of each scale vary about as colours do
# What `Training.finish` asks of good pictures
LIMITS: dict[str, Any] = {
    "max_ratio": 1.2,
    "min_precision": 0.8,
    "min_coverage": 0.93,
    "check_detail": False,  # features do not have it
}


class Standardize(nn.Module):
    """Shifts and scales numbers to mean 0 and standard deviation 1: all alike, not by column."""

    mean: Tensor
    std: Tensor

    def __init__(self, numbers: Tensor) -> None:
        super().__init__()
        std, mean = torch.std_mean(numbers, correction=0)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std.clamp(min=1e-6))  # equal numbers have 0

    def forward(self, numbers: Tensor) -> Tensor:
        return (numbers - self.mean) / self.std


class Features:
    """What the distance of pictures compares: `features(pictures)` are rows (n, m), in one unit.

    The mean colours in 8 by 8 cells tell what is where. The mean strength of details in 2 by 2
    cells tells blur and noise: absolute second differences, in the picture and in its halves and
    quarters (local energies at several scales: Heeger and Bergen 1995; for GANs, on patches: Karras
    et al. 2018).
    """

    def __init__(self, pictures: Tensor) -> None:
        self.standardize = Standardize(self.measure(common.random_subset(pictures, 1000)))

    def __call__(self, pictures: Tensor) -> Tensor:
        return self.standardize(self.measure(pictures))

    def measure(self, pictures: Tensor) -> Tensor:
        """The features before they are standardised."""
        blocks = pictures.split(500)  # to save memory
        return torch.cat([self.measure_block(block) for block in blocks])

    def measure_block(self, pictures: Tensor) -> Tensor:
        """The features of a few pictures."""
        features = [functional.adaptive_avg_pool2d(pictures, 8).flatten(1)]
        for weight in DETAIL_WEIGHTS:
            for dim in (2, 3):
                details = pictures.diff(n=2, dim=dim).abs()
                features.append(weight * functional.adaptive_avg_pool2d(details, 2).flatten(1))
            pictures = functional.avg_pool2d(pictures, 2)
        return torch.cat(features, dim=1)


# --- Checks ------------------------------------------------------------------------------------

MIN_CLEAR = 0.9  # as many times the share of real pictures that are clearly of one class
MIN_RIGHT = 0.95  # as many times the share of real pictures whose nearest is of the same class
MAX_COPIES = 0.1  # above the share of near-copies among real pictures


def nearest_pictures(pictures: Tensor, real: Tensor, skip: int = 0) -> tuple[Tensor, Tensor]:
    """Distances (n, 6) of pictures to the nearest real ones, and the indices of these (n, 6).

    The `skip` nearest do not count: 1, if the pictures are among the real ones.
    """
    count = min(6 + skip, len(real))
    real = real.flatten(1)
    distances = []
    indices = []
    for block in pictures.flatten(1).split(256):
        nearest = torch.cdist(block, real).topk(count, largest=False)
        distances.append(nearest.values[:, skip:])
        indices.append(nearest.indices[:, skip:])
    return torch.cat(distances), torch.cat(indices)


def nearest_class(
    pictures: Tensor, real: Tensor, labels: Tensor, skip: int = 0
) -> tuple[Tensor, Tensor]:
    """The class (n,) of the nearest of the real pictures, and whether it is clear (n,).

    The real pictures have labels (m,). A class is clear if at least four of the five nearest agree.
    `skip` is that of `nearest_pictures`.
    """
    _, nearest = nearest_pictures(pictures, real, skip)
    classes = labels[nearest[:, :5]]
    agreeing = (classes == classes[:, :1]).sum(dim=1)
    return classes[:, 0], agreeing >= 4


def share(flags: Tensor) -> float:
    """The share of flags that are true."""
    return flags.float().mean().item()


def check_classes(
    training: Training, samples: Tensor, labelled: Labelled, requested: Tensor | None = None
) -> None:
    """Checks that samples (n, ...) are clearly of one class each, and that no class is missing.

    The class of a picture is that of the nearest labelled one. Classes that are alike are seldom
    clear, even of real pictures, so each is expected as often as it is clear among these. The
    `requested` labels (n,) of the samples are compared with their classes. At most 2,048 samples
    are judged; none, if there is one class only, or if the labelled pictures have another shape.
    """
    pictures, labels, names = labelled
    if len(names) < 2 or pictures.shape[1:] != samples.shape[1:]:
        return
    random = common.random_generator("pictures of classes")
    chosen = torch.randperm(len(pictures), generator=random)[:2048]
    real_classes, real_clear = nearest_class(pictures[chosen], pictures, labels, skip=1)
    classes, clear = nearest_class(samples[:2048], pictures, labels)
    training.metrics["clear"] = share(clear)
    training.metrics["clear_of_real"] = share(real_clear)
    least = MIN_CLEAR * share(real_clear)
    training.check(
        "clearly of one class",
        share(clear) >= least,
        f"{share(clear):.0%}",
        f"at least {least:.0%}",
        "too many pictures are not clearly of one class.",
    )
    training.check_missing(real_classes[real_clear], classes[clear], names)
    if requested is not None:
        right = share(classes == requested[: len(classes)])
        real_right = share(real_classes == labels[chosen])
        least = MIN_RIGHT * real_right
        training.check(
            "of the requested class",
            right >= least,
            f"{right:.0%}",
            f"at least {least:.0%}",
            "too many pictures are not of the requested class.",
        )


def check_copies(training: Training) -> Figure:
    """Checks that few samples are near-copies of the data.

    A near-copy is less than half as far from the nearest real picture as from the next five, on
    average (after Carlini et al. 2023). Some real ones are near-copies of others. Returns a plot of
    12 samples, and below each the real picture nearest to it.
    """
    data = training.data
    samples = training.samples[:1024]
    distances, nearest = nearest_pictures(samples, data)
    real_distances, _ = nearest_pictures(common.random_subset(data, 1024), data, skip=1)
    copies = share(distances[:, 0] < distances[:, 1:].mean(dim=1) / 2)
    real_copies = share(real_distances[:, 0] < real_distances[:, 1:].mean(dim=1) / 2)
    training.metrics["copies"] = copies
    training.metrics["copies_among_real"] = real_copies
    most = real_copies + MAX_COPIES
    training.check(
        "near-copies",
        copies <= most,
        f"{copies:.0%}",
        f"at most {most:.0%}",
        "too many samples are near-copies of pictures of the data.",
        "Try more pictures, or fewer --epochs.",
    )
    figure = Figure(figsize=(8, 1.5), dpi=120, layout="constrained")
    pairs = {"generated": samples[:12], "nearest real": data[nearest[:12, 0]]}
    draw_pictures(figure.subplots(), pairs, columns=12)
    return figure


# --- Drawing -----------------------------------------------------------------------------------


def picture_grid(pictures: Tensor, columns: int) -> np.ndarray:
    """Pictures in rows, at least one, as one: (height, width), or in colour (height, width, 3)."""
    rows = max(1, math.ceil(len(pictures) / columns))
    blank = pictures.new_ones(rows * columns - len(pictures), *pictures.shape[1:])
    cells = torch.cat([pictures, blank]).unflatten(0, (rows, columns))
    lines = cells.permute(0, 3, 1, 4, 2)  # (rows, height, columns, width, channels)
    return lines.flatten(2, 3).flatten(0, 1).squeeze(2).numpy()


def draw_pictures(axes: Any, named: dict[str, Tensor], columns: int) -> None:
    """Draws pictures below each other on axes of matplotlib, with their names."""
    grids = [picture_grid(pictures, columns) for pictures in named.values()]
    axes.imshow(np.concatenate(grids), cmap="gray", vmin=0, vmax=1)
    ends = np.cumsum([len(grid) for grid in grids])
    middles = [end - len(grid) / 2 for end, grid in zip(ends, grids, strict=True)]
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color=common.REAL, linewidth=2)
    axes.set(xticks=[], yticks=middles, yticklabels=list(named))


def plot_pictures(pictures: Tensor, columns: int) -> Figure:
    """Plots pictures, and nothing else."""
    figure = Figure(figsize=(0.6 * columns, 0.6 * len(pictures) / columns), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture_grid(pictures, columns), cmap="gray", vmin=0, vmax=1)
    return figure


# --- A saved generator -------------------------------------------------------------------------

BLOCK = 256  # pictures generated at once: more would take memory


def save_names(generator: nn.Module, names: Sequence[str]) -> None:
    """Keeps the names of labels in a buffer of the generator, which is saved with it."""
    content = json.dumps(list(names)).encode()
    generator.register_buffer("names", torch.tensor(list(content), dtype=torch.uint8))


def read_names(generator: nn.Module) -> list[str]:
    """The names of labels in a saved generator; Failure if it has none."""
    buffers = dict(generator.named_buffers())
    if "names" not in buffers:
        raise Failure("the saved generator has no labels; train again")
    return json.loads(bytes(buffers["names"]))


def find_label(label: str, names: list[str]) -> int:
    """The index of the label of that name, in any case, or of that number; or InputError."""
    lower = [name.lower() for name in names]
    numbers = [str(i) for i in range(len(names))]
    if label in names:
        return names.index(label)
    if label.lower() in lower:
        return lower.index(label.lower())
    if label in numbers:
        return int(label)
    raise InputError(f"--label can be {', '.join(names)}, not {label}")


def use_generator(options: Namespace, latent_dim: int, labelled: bool = False) -> int:
    """Serves --generate and --interpolate; returns the exit status.

    If `labelled`, the generator's inputs end with a label: that of --label, or all in turn.
    """
    cli.require_no_training_options(options)
    generator = cli.load_model(options.out / "generator.pt", None if labelled else latent_dim)
    labels = torch.empty(1, 0)  # one-hot rows, to be taken in turn
    if labelled:
        names = read_names(generator)
        labels = torch.eye(len(names))
        if options.label:
            labels = labels[[find_label(options.label, names)]]
    (inputs,) = cli.saved_shape(generator, latent_dim + labels.shape[1])
    latent_dim = inputs - labels.shape[1]

    if options.generate:
        random = common.random_generator("samples", options.seed)
        with new_folder(options.out / "generated") as folder:
            for start in range(0, options.generate, BLOCK):
                # Whole blocks, the last one too: randn draws the numbers of a part in another order
                noise = torch.randn(BLOCK, latent_dim, generator=random)
                numbers = torch.arange(start, min(start + BLOCK, options.generate))
                turns = labels[numbers % len(labels)]
                pictures = generator(torch.cat([noise[: len(numbers)], turns], dim=1))
                save_pictures(folder, pictures, [f"{i:05}" for i in numbers.tolist()])
    if options.interpolate:
        random = common.random_generator("interpolation", options.seed)
        rows = []
        for i in range(max(8, len(labels))):
            noise = common.interpolate(options.interpolate, latent_dim, 2, generator=random)
            label = labels[i % len(labels)].expand(len(noise), -1)
            rows.append(generator(torch.cat([noise, label], dim=1)))
        figure = plot_pictures(torch.cat(rows), options.interpolate)
        cli.save_picture(options, "interpolation.png", figure)
    return 0


def save_pictures(folder: Path, pictures: Tensor, names: Sequence[str]) -> None:
    """Saves pictures as PNG files with these names."""
    pixels = (255 * pictures).round().byte().permute(0, 2, 3, 1).squeeze(3).numpy()
    for name, picture in zip(names, pixels, strict=True):
        Image.fromarray(picture).save(folder / f"{name}.png")


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The names of files without their endings, with a number if some are equal."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):  # of files in several folders
        names = [f"{i}-{name}" for i, name in enumerate(names, start=1)]
    return names


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to be filled with pictures; it is moved to `path` when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    with cli.saving_in(path.parent):
        cli.remove(partial)
        partial.mkdir()
        try:
            yield partial
            cli.remove(path)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    print(f"Saved in {path}: {len(list(path.iterdir())):,} pictures")


# --- Resuming ----------------------------------------------------------------------------------


class Checkpoint:
    """A file with all that a training needs to continue, saved after each epoch.

    `parts` are its networks and optimizers. Without a path, nothing is saved.
    """

    def __init__(
        self,
        path: Path | None,
        training: Training,
        batches: Batches,
        parts: Sequence[Any],
        lr: float,
        resume: bool = False,
    ) -> None:
        """To `resume`, the training continues from the file, as `load` says."""
        self.path = path
        self.training = training
        self.batches = batches
        self.parts = parts
        self.settings = {  # must be the same when the training continues
            "seed": training.metrics["seed"],
            "epochs": training.stopping.last_epoch,
            "patience": training.stopping.patience,
            "lr": lr,
            "batch size": batches.size,
            "sum of the pixels": int(training.data.sum(dtype=torch.float64)),
        }
        if resume:
            self.load()

    def save(self) -> None:
        """Save the training, unless it has diverged."""
        if self.path is None or self.training.stopping.diverged:
            return
        device = self.batches.rows.device
        state = {
            "settings": self.settings,
            "stopping": vars(self.training.stopping),
            "history": [tuple(evaluation) for evaluation in self.training.history],
            "snapshots": self.training.snapshots,
            "order": self.batches.order,
            "parts": [part.state_dict() for part in self.parts],
            "random": torch.get_rng_state(),
            "gpu_random": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        content = io.BytesIO()
        torch.save(state, content)
        cli.write(self.path, content.getvalue())

    def load(self) -> None:
        """Continue from the file.

        Failure if it cannot be read, InputError if it is of other data or other settings.
        """
        try:
            state = torch.load(self.path or "", map_location="cpu", weights_only=True)
            if state["settings"] == self.settings:
                self.restore(state)
                return
        except Exception:  # torch raises many kinds of errors for files that it cannot read
            reason = "is missing, damaged, or of other networks"
            raise Failure(f"{self.path} {reason}; omit --resume") from None
        settings = ", ".join(f"{name} {value}" for name, value in state["settings"].items())
        raise InputError(f"{self.path} is of other data or settings ({settings}); omit --resume")

    def restore(self, state: dict[str, Any]) -> None:
        """Set the training to what was saved."""
        device = self.batches.rows.device
        vars(self.training.stopping).update(state["stopping"])
        self.training.history = [Evaluation(*numbers) for numbers in state["history"]]
        self.training.snapshots = state["snapshots"]
        self.batches.order = state["order"].to(device)
        for part, part_state in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(part_state)
        torch.set_rng_state(state["random"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(state["gpu_random"], device)


def report(options: Namespace, training: Training, checkpoint: Path) -> int:
    """Prints the verdict; removes the checkpoint of a training that has ended."""
    if training.interrupted:
        print("Add --resume to continue.", file=sys.stderr)
    else:
        with cli.saving_in(checkpoint.parent):
            checkpoint.unlink(missing_ok=True)
    return cli.report(options, training)
