"""What the scripts share, so that each of them can keep to its one concept.

In order: randomness and device, data, files, distance, training, pictures, kinds of samples,
command line.
Copy this file along with the script that you copy; nothing else of the collection is needed.
"""

import argparse
import contextlib
import copy
import csv
import functools
import inspect
import io
import itertools
import json
import math
import os
import platform
import re
import shutil
import signal
import sys
import threading
import warnings
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

import numpy as np
import torch
from filelock import FileLock, Timeout  # which torch needs as well
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image  # which matplotlib needs as well
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm.auto import tqdm


class Failure(Exception):
    """It could not be done: the message says in one line what, and what to do about it."""


# --- Randomness and device ---------------------------------------------------------------------


def seeded_generator(seed: int) -> torch.Generator:
    """A source of random numbers of its own, on the CPU, that follows from `seed`."""
    return torch.Generator().manual_seed(seed)


def random_states() -> list[Tensor]:
    """Where torch's own sources of random numbers stand: the CPU's, and those of CUDA devices."""
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def set_random_states(states: Sequence[Tensor]) -> None:
    """Let torch's own sources of random numbers go on from where they stood."""
    torch.set_rng_state(states[0])
    torch.cuda.set_rng_state_all(states[1:])


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device called `name`; "auto" is the accelerator that torch reports, else the CPU.

    Raises ValueError, naming the devices that are there, for one that is not.
    """
    name = str(name)
    present = ["cpu"]
    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    if accelerator is not None:
        present += [f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count())]
    if name == "auto":
        return torch.device(present[-1].split(":")[0])
    if name in present or f"{name}:0" in present:
        return torch.device(name)
    raise ValueError(f"device {name!r} is not there; choose from auto, {', '.join(present)}")


P = ParamSpec("P")
R = TypeVar("R")


def on_one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` on one CPU thread: for matrices this small, more cost more than they give.

    It also makes results the same whatever number of threads the machine would use.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_num_threads(threads)

    return wrapper


# --- Data --------------------------------------------------------------------------------------


def one_hot_encode(integers: Tensor, depth: int) -> Tensor:
    """Integers (n,) in 0..depth-1 as one-hot rows (n, depth), float32.

    Raises ValueError for anything that is not an integer tensor, or is out of range.
    """
    check_count("depth", depth)
    if not isinstance(integers, Tensor) or integers.dtype not in INTEGER_TYPES:
        raise ValueError(f"one-hot encoding needs a tensor of integers, not {_type_name(integers)}")
    if integers.ndim != 1:
        raise ValueError(f"integers must have shape (n,), not {tuple(integers.shape)}")
    if len(integers) and not 0 <= integers.min() <= integers.max() < depth:
        low, high = integers.min().item(), integers.max().item()
        raise ValueError(f"integers must lie in 0..{depth - 1}; these lie in {low}..{high}")
    return nn.functional.one_hot(integers.long(), depth).float()


def one_hot_decode(rows: Tensor) -> Tensor:
    """The integer (n,) that each row (n, depth) stands for: the place of its largest entry."""
    check_rows(rows)
    return rows.argmax(dim=1)


INTEGER_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _type_name(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def check_images(images: Tensor, pixels: int | None = None) -> None:
    """ValueError unless `images` are square ones as rows (n, pixels), with values in 0..1."""
    check_rows(images)
    if images.shape[1] != (pixels or math.isqrt(images.shape[1]) ** 2):
        wanted = f"{pixels} pixels" if pixels else "a square number of pixels"
        raise ValueError(f"images must be rows of {wanted}, not {images.shape[1]}")
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1:
        raise ValueError(f"pixels must lie in 0..1; these lie in {low:g}..{high:g}")


def check_labels(labels: Tensor, count: int, classes: int) -> None:
    """ValueError unless `labels` are `count` integers in 0..classes-1."""
    one_hot_encode(labels, classes)
    if len(labels) != count:
        raise ValueError(f"{count} images need as many labels, not {len(labels)}")


def check_one_hot(rows: Tensor) -> None:
    """ValueError unless `rows` (n, depth) are one-hot: a single 1 in each, and zeros."""
    check_rows(rows)
    if not torch.equal(rows, one_hot_encode(one_hot_decode(rows), rows.shape[1]).to(rows)):
        raise ValueError("data must be one-hot rows: a single 1 in each, zeros elsewhere")


def check_rows(rows: Tensor) -> None:
    """ValueError unless `rows` is a float tensor (n, features), neither of them 0, and finite."""
    if not isinstance(rows, Tensor) or not rows.is_floating_point():
        raise ValueError(f"data must be a tensor of floats, not {_type_name(rows)}")
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"data must have shape (n, features), not {tuple(rows.shape)}")
    if not (rows.float().abs() <= LARGEST).all():
        raise ValueError(f"data must be finite, within {LARGEST:g}; these hold NaN or larger ones")


LARGEST = 1e37  # in the data: differences and sums of larger ones may leave float32


def check_settings(rows: int, seed: int, epochs: int, batch_size: int | None, lr: float) -> None:
    """ValueError unless one can train like this on so many rows."""
    check_count("seed", seed, least=0)
    check_count("epochs", epochs)
    check_count("batch_size", 1 if batch_size is None else batch_size)
    if batch_size is not None and batch_size > rows:
        raise ValueError(f"batch_size {batch_size} is larger than the data, {rows} rows")
    if not (isinstance(lr, float | int) and 0 < lr < math.inf):
        raise ValueError(f"lr must be a positive number, not {lr!r}")


def check_count(name: str, value: int, least: int = 1) -> None:
    """ValueError unless `value` is an integer of at least `least`, and of 64 bits at most."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")


def hold_out(
    data: Tensor, generator: torch.Generator, one_unit: bool = False
) -> tuple[Tensor, Tensor]:
    """Part rows (n, features) into those to learn from and those to measure on, in their order.

    A sixteenth, at most 2,048 rows, is held out: more would measure better, and leave less to learn
    from. To leave both parts alike, it is one row, by lot, of each group of neighbours (of a sample
    of the rows, where they are many). A single row serves as both.
    """
    n = len(data)
    rows = data.detach().cpu().float()
    if n == 1:
        return rows, rows
    count = min(max(n // 16, 32), n // 2, 2048)
    some = torch.arange(n) if n <= 2**15 else torch.randperm(n, generator=generator)[: 2**15]
    groups = neighbours(Standardize(rows[some], one_unit)(rows[some]), count, generator)
    by_lot = [group[torch.randint(len(group), (), generator=generator)] for group in groups]
    held_out = torch.zeros(n, dtype=torch.bool)
    held_out[some[torch.stack(by_lot)]] = True
    return rows[~held_out], rows[held_out]


def neighbours(rows: Tensor, count: int, generator: torch.Generator) -> list[Tensor]:
    """Indices of rows (n, features) in `count` groups of neighbours, alike in size.

    Halves along a direction drawn by lot, again and again (Dasgupta and Freund 2008).
    """

    def split(indices: Tensor, count: int) -> list[Tensor]:
        if count == 1:
            return [indices]
        direction = torch.randn(rows.shape[1], generator=generator)
        indices = indices[(rows[indices] @ direction).argsort(stable=True)]
        cut = len(indices) * (count // 2) // count
        return split(indices[:cut], count // 2) + split(indices[cut:], count - count // 2)

    return split(torch.arange(len(rows)), count)


class Standardize(nn.Module):
    """Rows (n, features) in the data's units to mean 0 and standard deviation 1 in each column.

    Columns in `one_unit`, such as pixels, keep it: they have one mean and deviation, that of all
    their numbers, so that one that hardly varies does not count as much as the others.
    """

    mean: Tensor  # (features,)
    deviation: Tensor

    def __init__(self, data: Tensor, one_unit: bool = False) -> None:
        super().__init__()
        columns = data.detach().cpu().unbind(dim=1)
        # double, as float32 loses the spread of columns far from zero; one by one, to save room
        moments = [torch.std_mean(column.double(), correction=0) for column in columns]
        deviation, mean = (torch.stack(moment) for moment in zip(*moments, strict=True))
        constant = torch.stack([(column == column[0]).all() for column in columns])
        deviation = deviation.where(~constant, 0)  # but for rounding
        if one_unit:
            spread, mean = mean.var(correction=0).expand_as(mean), mean.mean().expand_as(mean)
            deviation = (deviation.square().mean() + spread).sqrt()
        self.register_buffer("mean", mean.float())
        self.register_buffer("deviation", deviation.float())

    def forward(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.deviation.where(
            self.deviation > 0, torch.ones_like(self.deviation)
        )


class Restore(Standardize):
    """The way back: standardised rows to rows in the data's units; a constant column is exact."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.deviation + self.mean


# --- Files -------------------------------------------------------------------------------------


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all."""
    write_all(path.parent, {path.name: content})


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder, whole, and all of them: if one fails, the earlier ones stay.

    They are written beside their places, and moved into them when all are on the disk.
    """
    partial = {name: folder / PARTIAL.format(name) for name in files}
    try:
        for name, content in files.items():
            with partial[name].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name, path in partial.items():
            path.replace(folder / name)
    finally:
        for path in partial.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


PARTIAL = ".{}.partial"  # the name of a file while it is written


@contextlib.contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Have the folder for results, made where absent, for this process alone.

    What a killed one has left there half-written is removed. Failure, before any work is done, if
    it cannot be written to, or if another process has it.
    """
    lock = FileLock(folder / ".lock", timeout=0)  # which the system opens again if we are killed
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        for leftover in folder.glob(PARTIAL.format("*")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        write_whole(folder / "writable", b"")
        (folder / "writable").unlink()
    except Timeout:
        raise Failure(f"another run saves to {folder}; wait, or choose another --out") from None
    except OSError as error:
        raise Failure(f"cannot write to {folder}: {error.strerror}; choose another --out") from None
    try:
        yield
    finally:
        lock.release()


def model_files(name: str, model: nn.Module, example: Tensor) -> dict[str, bytes]:
    """`model` in both formats, for any number of rows like `example`."""
    return {f"{name}.pt": torchscript(model, example), f"{name}.pt2": exported(model, example)}


def torchscript(model: nn.Module, example: Tensor) -> bytes:
    """`model` as a TorchScript file, for any number of rows like `example`; it is read back."""
    buffer = io.BytesIO()
    with torch.no_grad(), _quiet():
        torch.jit.save(torch.jit.trace(model, example, check_trace=False), buffer)
        _check_same(model, torch.jit.load(io.BytesIO(buffer.getvalue())), example)
    return buffer.getvalue()


def exported(model: nn.Module, example: Tensor) -> bytes:
    """The same as a torch.export file, the successor of TorchScript."""
    buffer = io.BytesIO()
    rows = ({0: torch.export.Dim("rows")},)
    with torch.no_grad(), _quiet():
        program = torch.export.export(model, (example,), dynamic_shapes=rows, strict=False)
        torch.export.save(program, buffer)
        _check_same(model, torch.export.load(io.BytesIO(buffer.getvalue())).module(), example)
    return buffer.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings: that TorchScript has a successor, or that a file is not its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_same(model: nn.Module, loaded: Callable[[Tensor], Tensor], example: Tensor) -> None:
    for rows in (example, example[:1]):
        expected = model(rows)
        tolerance = 1e-5 * expected.abs().max().item()
        if not torch.allclose(loaded(rows), expected, rtol=0, atol=tolerance, equal_nan=True):
            raise Failure("the saved model differs from the one in memory, so it was not kept")


def load_torchscript(path: Path, inputs: int, outputs: int) -> nn.Module:
    """A saved model (n, inputs) -> (n, outputs); Failure if absent, damaged or of another shape."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}; train first") from None
    try:
        if zipfile.ZipFile(io.BytesIO(content)).testzip():
            raise ValueError("a checksum is wrong")
        with torch.no_grad(), _quiet():
            model = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
            shape = tuple(model(torch.zeros(3, inputs)).shape)
    except Exception:  # torch raises errors of many kinds over a file that it cannot read or run
        raise Failure(f"{path} is damaged, or not a model from here; train again") from None
    if shape != (3, outputs):
        raise Failure(f"{path} is a model of another shape; train again")
    return model


def read_numbers(path: Path, wanted: str, valid: Callable[[list[float]], bool]) -> Tensor:
    """Rows (n, columns) of a CSV file, a header allowed; Failure names the line that is wrong."""
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not a CSV file of numbers"
        raise Failure(f"cannot read {path}: {reason}") from None
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = [float(cell) for cell in line]
        except ValueError:
            if number == 1:  # the header
                continue
            row = []
        if not line:
            continue
        if not valid(row):
            found = ",".join(line)[:40]
            raise Failure(f"{path}, line {number}: expected {wanted}, found {found!r}")
        rows.append(row)
    if not rows:
        raise Failure(f"{path} holds no numbers; give {wanted} a line")
    return torch.tensor(rows)


def read_points(path: Path, features: int = 2) -> Tensor:
    """A CSV file of so many numbers a line as points (n, features)."""
    return read_numbers(
        path,
        f"{features} finite numbers",
        lambda row: len(row) == features and all(abs(number) <= LARGEST for number in row),
    )


def read_integers(path: Path, depth: int) -> Tensor:
    """A CSV file of one integer a line as one-hot rows (n, depth)."""
    integers = read_numbers(
        path,
        f"an integer in 0..{depth - 1}",
        lambda row: len(row) == 1 and row[0] in range(depth),
    )
    return one_hot_encode(integers.flatten().long(), depth)


def load_images(dataset: str, folder: Path | str, train: bool = True) -> tuple[Tensor, Tensor]:
    """Images (n, 784), 0 black to 1 white, and labels (n,) of "mnist" or "fashion".

    torchvision reads them from `folder`, and downloads them to it, with checksums, where they are
    absent. Failure if that cannot be done.
    """
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
        raise Failure(f"the images in {raw} are damaged; delete them, to have them anew") from None
    except (RuntimeError, OSError):
        files = ", ".join(name for name, _ in kind.resources)
        raise Failure(
            f"no images in {raw}, nor could they be downloaded from {' or '.join(kind.mirrors)}; "
            f"connect, choose another --data-dir, or place these in {raw}, unpacked: {files}"
        ) from None
    return found.data.flatten(1).float() / 255, found.targets.long()


def read_image(path: Path) -> Tensor:
    """An image file as a row (1, 784), shrunk to 28 by 28 pixels, 0 black to 1 white."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L").resize((28, 28)), dtype=np.float32)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror or 'it is not an image'}") from None
    return torch.from_numpy(pixels).view(1, -1) / 255


def save_pngs(folder: Path, pixels: Iterator[np.ndarray], count: int) -> Path:
    """Write blocks (n, height, width) of bytes as 00000.png, ... in generated/, in place of others.

    Those that were there before are gone only when all are on the disk.
    """
    place, partial = folder / "generated", folder / PARTIAL.format("generated")
    partial.mkdir()
    try:
        for i, image in enumerate(itertools.chain.from_iterable(pixels)):
            Image.fromarray(image).save(partial / f"{i:0{max(5, len(str(count - 1)))}}.png")
        place.mkdir(exist_ok=True)
        for earlier in place.glob("[0-9]*.png"):
            earlier.unlink()
        for image in partial.iterdir():
            image.replace(place / image.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def save_npz(folder: Path, pixels: Iterator[np.ndarray], count: int) -> Path:
    """Write blocks (n, 28, 28) of bytes as one array `images` (count, 28, 28) in generated.npz."""
    path, partial = folder / "generated.npz", folder / PARTIAL.format("generated.npz")
    head = {"descr": "|u1", "fortran_order": False, "shape": (count, 28, 28)}
    try:
        with (
            zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("images.npy", "w", force_zip64=True) as file,
        ):
            np.lib.format.write_array_header_1_0(file, head)  # block by block: memory is flat
            for block in pixels:
                file.write(block.tobytes())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


# --- Distance ----------------------------------------------------------------------------------


class SlicedWasserstein:
    """Distance of samples to `real` ones: sliced 2-Wasserstein (Bonneel et al. 2015).

    Both are standardised, projected on fixed random directions and sorted; the root mean square of
    the differences is averaged over directions. It rises for points off the real ones as well as
    for real ones left out. Its unit is a standard deviation of the `scale` rows (`real` itself).
    """

    def __init__(
        self,
        real: Tensor,
        scale: Tensor | None = None,
        directions: int = 64,
        one_unit: bool = False,
    ) -> None:
        """`real` and `scale` have shape (n, features); ValueError if empty or not finite."""
        check_rows(real)
        self.standardize = Standardize(real if scale is None else scale, one_unit)
        normal = torch.randn(directions, real.shape[1], generator=seeded_generator(0))
        self.directions = normal / normal.norm(dim=1, keepdim=True)
        self.real = self._sorted_projections(real)

    def _sorted_projections(self, rows: Tensor) -> Tensor:  # (n, features) -> (directions, n)
        projections = self.directions @ self.standardize(rows.detach().cpu().float()).T
        return torch.from_numpy(np.sort(projections.numpy(), axis=1))  # faster than torch's

    def __call__(self, samples: Tensor) -> float:
        """The distance of `samples` (m, features), any m; infinite if one of them is not finite."""
        features = self.directions.shape[1:]
        if not isinstance(samples, Tensor) or samples.shape[1:] != features or not len(samples):
            found = tuple(samples.shape) if isinstance(samples, Tensor) else _type_name(samples)
            raise ValueError(f"samples must have shape (n, {features[0]}), not {found}")
        if not samples.float().isfinite().all():
            return math.inf
        fewer, more = sorted(
            (self._sorted_projections(samples), self.real), key=lambda p: p.shape[1]
        )
        quantiles = (torch.arange(more.shape[1]) + 0.5) / more.shape[1]
        same_quantile = fewer[:, (quantiles * fewer.shape[1]).long()]
        return (same_quantile - more).square().mean(dim=1).sqrt().mean().item()


def distance_of_fresh_rows(
    distance: SlicedWasserstein, real: Tensor, count: int, generator: torch.Generator
) -> float:
    """The furthest of 20 fresh samples of `count` rows; a generator this near passes for real.

    As no fresh ones are at hand, they are drawn with replacement from the real rows (n, features)
    (bootstrap, Efron 1979).
    """
    draws = [torch.randint(len(real), (count,), generator=generator) for _ in range(20)]
    return max(distance(real[draw]) for draw in draws)


def precision_and_recall(
    real: Tensor, held_out: Tensor, generated: Tensor, one_unit: bool = False
) -> tuple[float, float]:
    """Share of generated rows near real ones, and of held-out rows near generated ones.

    Near a real row is whatever is no further than its fifth nearest real one, or a tenth of a
    standard deviation (improved precision and recall, Kynkaanniemi et al. 2019); twice that for a
    held-out one, which may have none near by luck. A distance sums up all rows; these two notice
    the few that are astray, and the rare ones that are left out. All have shape (n, features), any
    n; at most 2,048 rows of each are looked at, drawn by lot.
    """
    standardize, random = Standardize(real, one_unit), seeded_generator(0)

    def some(rows: Tensor) -> Tensor:
        return standardize(rows[torch.randperm(len(rows), generator=random)[:2048]].float())

    real, held_out, generated = some(real), some(held_out), some(generated)
    if not generated.isfinite().all():
        return 0.0, 0.0

    def reach(rows: Tensor) -> Tensor:  # (n, features) -> (n,)
        return torch.cdist(rows, real).kthvalue(min(5, len(real)), dim=1).values

    reach_of_real = in_blocks(reach, real).clamp(min=0.1)

    def near_real(rows: Tensor) -> Tensor:
        return (torch.cdist(rows, real) <= reach_of_real).any(dim=1)

    def covered(rows: Tensor) -> Tensor:
        return torch.cdist(rows, generated).amin(dim=1) <= reach(rows).clamp(min=0.2)

    precision, recall = in_blocks(near_real, generated), in_blocks(covered, held_out)
    return precision.float().mean().item(), recall.float().mean().item()


def recognise(
    images: Tensor, real: Tensor, labels: Tensor, among_real: bool = False
) -> tuple[Tensor, Tensor]:
    """The class (n,) of each image (n, pixels), and whether it is plainly of that class (n,).

    The class is that of the nearest real image; plainly, if four of the five nearest are of it.
    The real ones have shape (m, pixels), their labels (m,). `among_real`: the images are themselves
    among the real ones.
    """
    skipped = 1 if among_real else 0  # itself

    def nearest(rows: Tensor) -> Tensor:
        return torch.cdist(rows, real).topk(min(5 + skipped, len(real)), largest=False).indices

    classes = labels[in_blocks(nearest, images)[:, skipped:]]
    return classes[:, 0], (classes == classes[:, :1]).sum(dim=1) >= 4


def in_blocks(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """function(rows), for a function of each row by itself, in little memory."""
    return torch.cat([function(block) for block in rows.split(256)])


# --- Training ----------------------------------------------------------------------------------


class Batches:
    """Batches (size, features) of rows (n, features), without end, each row as often as any other.

    Rows drawn by lot instead would leave the discriminator to learn from the luck of the draw.
    """

    def __init__(self, rows: Tensor, size: int) -> None:
        self.rows, self.size = rows, size
        self.shuffled = torch.empty(0, dtype=torch.int64, device=rows.device)  # indices to come

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        while len(self.shuffled) < self.size:
            more = torch.randperm(len(self.rows), device=self.rows.device)
            self.shuffled = torch.cat([self.shuffled, more])
        chosen, self.shuffled = self.shuffled[: self.size], self.shuffled[self.size :]
        return self.rows[chosen]

    def state_dict(self) -> dict[str, Tensor]:
        """What `load_state_dict` needs to go on from here."""
        return {"shuffled": self.shuffled.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from where another one was."""
        self.shuffled = state["shuffled"].to(self.rows.device)


def even_noise(size: int, columns: int, device: str | torch.device) -> Iterator[Tensor]:
    """Batches (size, columns) of standard normal noise, without end, more even than by lot.

    Scrambled Sobol points (Owen 1998): each row by itself is as random as any, but together they
    leave no gaps, so that the luck of the draw is not taken for a fault of the generator.
    """
    while True:
        sobol = torch.quasirandom.SobolEngine(columns, scramble=True)
        for _ in range(64):
            even = sobol.draw(size).clamp(1e-6, 1 - 1e-6)  # its ends would be infinite
            yield torch.special.ndtri(even).to(device)


class FourierFeatures(nn.Module):
    """Appends sines and cosines of each input at several frequencies (Tancik et al. 2020).

    (n, inputs) -> (n, inputs * (1 + 2 * len(frequencies))), frequencies in radians per unit. They
    let a small network see, or make, structure finer than it would come to by itself. Frequencies
    drawn at random would do as well on average, but a few draws are blind to some directions.
    """

    frequencies: Tensor

    def __init__(self, frequencies: Sequence[float] = (1, 2, 4)) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.tensor(frequencies, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        phases = (inputs.unsqueeze(2) * self.frequencies).flatten(1)
        return torch.cat([inputs, phases.sin(), phases.cos()], dim=1)


def gradient_penalty(scores: Tensor, rows: Tensor) -> Tensor:
    """Mean squared slope of the scores (n, 1) at the rows (n, features) (Mescheder et al. 2018)."""
    (slopes,) = torch.autograd.grad(scores.sum(), rows, create_graph=True)
    return slopes.square().sum(dim=1).mean()


def shifted(images: Tensor, most: int) -> Tensor:
    """Square images (n, pixels), each moved by lot, by at most so many pixels along each axis."""
    n, side = len(images), math.isqrt(images.shape[1])
    padded = nn.functional.pad(images.view(n, side, side), (most,) * 4)
    starts = torch.randint(2 * most + 1, (2, n, 1), device=images.device)
    rows, columns = starts + torch.arange(side, device=images.device)
    image = torch.arange(n, device=images.device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]].flatten(1)


def cut_out(images: Tensor, size: int) -> Tensor:
    """Square images (n, pixels), each with a square of `size` pixels a side, odd, made black.

    Its middle is drawn by lot; at the edges, less of it lies in the image (DeVries, Taylor 2017).
    """
    n, side = len(images), math.isqrt(images.shape[1])
    middle = torch.randint(side, (2, n, 1), device=images.device)
    rows, columns = (torch.arange(side, device=images.device) - middle).abs() <= size // 2
    hidden = rows[:, :, None] & columns[:, None, :]
    return images.view(n, side, side).masked_fill(hidden, 0).flatten(1)


@torch.no_grad()
def move_towards(average: nn.Module, model: nn.Module, share: float) -> None:
    """Exponential moving average of weights: move `average` by `share` of the way to `model`.

    With what batch normalisation keeps of its inputs, which belongs to the weights.
    """
    update = get_ema_multi_avg_fn(1 - share)
    update(*(
        [*network.parameters(), *(part for part in network.buffers() if part.is_floating_point())]
        for network in (average, model)
    ), 0)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What is noted of an epoch; subclasses add figures."""

    epoch: int


@dataclass(frozen=True)
class Evaluation(Row):
    """What is noted of an epoch of adversarial training."""

    discriminator_loss: float
    generator_loss: float
    distance: float


Watch = Callable[[Evaluation, Tensor], None]


class EarlyStop:
    """Keeps the best model, that of the lowest error; says stop after `patience` without a better.

    Errors up to `noise` cannot be told apart: among them the later model counts as the better.
    """

    def __init__(self, patience: int, noise: float = 0.0) -> None:
        check_count("patience", patience)
        self.patience = patience
        self.noise = noise
        self.lowest = math.inf
        self.best_model: nn.Module | None = None
        self.best_at = 0  # the number of the evaluation, counted from 1
        self.evaluations = 0

    def update(self, error: float, model: nn.Module) -> bool:
        """Take note of an evaluation; True when it is time to stop. NaN is never the best."""
        self.evaluations += 1
        if error < max(self.lowest, self.noise) or self.best_model is None:
            self.lowest = math.inf if math.isnan(error) else error
            self.best_model = copy.deepcopy(model)
            self.best_at = self.evaluations
        return self.evaluations - self.best_at >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on from here, after an update."""
        assert self.best_model is not None
        best = self.best_model.state_dict()
        return {"lowest": self.lowest, "best": best, "at": self.best_at, "of": self.evaluations}

    def load_state_dict(self, state: dict[str, Any], model: nn.Module) -> None:
        """Go on from where another one was; `model` has the form of the best one."""
        self.best_model = copy.deepcopy(model)
        self.best_model.load_state_dict(state["best"])
        self.lowest, self.best_at, self.evaluations = state["lowest"], state["at"], state["of"]


@dataclass(frozen=True)
class Outcome:
    """How a training went."""

    history: Sequence[Row]
    best_epoch: int
    interrupted: bool
    diverged: bool  # ended as the losses, or the distance, left all bounds


@dataclass(frozen=True)
class Training(Outcome):
    """What an adversarial training gives back."""

    history: list[Evaluation]
    generator: nn.Module  # the best one, on the CPU, in eval mode, in the data's own units
    held_out: Tensor  # (n, features), the real rows that it was measured on and never saw
    distance: float  # of generated samples to the held-out rows
    real_distance: float  # of the furthest of 20 fresh real samples, as large as the data, to them
    precision: float  # share of generated samples that lie near real ones
    recall: float  # share of the held-out rows that have generated samples near them

    @property
    def ratio(self) -> float:
        """Distance over that of fresh real samples: below 1, it cannot be told from them."""
        return self.distance / max(self.real_distance, 1e-3)

    @property
    def converged(self) -> bool:
        left_out = (1 - self.recall) * len(self.held_out)
        nothing_left_out = left_out < max(1.5, LEFT_OUT * len(self.held_out))
        return self.ratio <= NEAR and 1 - self.precision <= ASTRAY and nothing_left_out


NEAR = 1.25  # the ratio up to which a generator counts as good: perfect ones reach 1.2 by luck
LUCK = 3  # the ratio up to which generators differ, after an epoch, by the few samples drawn alone
ASTRAY = 0.05  # share of generated samples that may lie away from all real ones
LEFT_OUT = 0.02  # share of held-out rows (or a single one) that may have no generated ones near


AnyRow = TypeVar("AnyRow", bound=Row)


class Epochs(Generic[AnyRow]):
    """The epochs of a training, counted from 1: `for epoch in epochs`, with a `note` in each.

    Shows progress, keeps history and the best model. Ends after the last epoch, when patience is
    spent, when an error or a loss leaves all bounds, or when interrupted.
    """

    BOUND = 1e6  # thousands are seen in trainings that recover, millions are not

    def __init__(self, epochs: int, stop: EarlyStop, progress: bool) -> None:
        self.epochs, self.stop, self.progress = epochs, stop, progress
        self.error_bound = self.BOUND
        self.history: list[AnyRow] = []
        self.ended = self.diverged = False

    def __iter__(self) -> Iterator[int]:
        with tqdm(
            total=self.epochs,
            initial=len(self.history),
            unit="epoch",
            disable=not self.progress,
            leave=False,
        ) as bar:
            while len(self.history) < self.epochs and not self.ended:
                yield len(self.history) + 1
                _, *figures = asdict(self.history[-1]).items()
                bar.set_postfix({name: f"{figure:.3f}" for name, figure in figures}, refresh=False)
                bar.update()
                if INTERRUPTED:
                    return

    def note(self, row: AnyRow, error: float, model: nn.Module) -> None:
        """Add the row of an epoch to the history; `error` says how far the model is from good."""
        self.history.append(row)
        losses = [figure for name, figure in asdict(row).items() if name.endswith("loss")]
        bounded = error < self.error_bound and all(abs(loss) < self.BOUND for loss in losses)
        self.diverged = not bounded  # nor is NaN
        self.ended = self.diverged or self.stop.update(error, model)

    def best_model(self) -> nn.Module:
        """The best model, on the CPU, ready for use; Failure if training diverged at once."""
        if self.stop.best_model is None:
            raise Failure("training diverged from the start, nothing was saved; lower --lr")
        return self.stop.best_model.eval().cpu().requires_grad_(False)

    def outcome(self) -> dict[str, Any]:
        """The fields of an Outcome."""
        return {
            "history": self.history,
            "best_epoch": self.stop.best_at,
            "interrupted": bool(INTERRUPTED),
            "diverged": self.diverged,
        }


class Course(Epochs[Evaluation]):
    """The epochs of an adversarial training, judged by the distance to held-out real rows."""

    def __init__(
        self,
        data: Tensor,
        seed: int,
        epochs: int,
        patience: int,
        batch_size: int | None,
        lr: float,
        progress: bool,
        watch: Watch | None = None,
        one_unit: bool = False,
    ) -> None:
        """`watch` is called after each epoch, with its row and the samples generated to measure."""
        check_rows(data)
        check_settings(len(data), seed, epochs, batch_size, lr)
        torch.manual_seed(seed)
        self.real, self.held_out = hold_out(data, seeded_generator(seed), one_unit)
        self.one_unit = one_unit
        self.distance = SlicedWasserstein(self.held_out, scale=self.real, one_unit=one_unit)
        count = min(len(data), 2048)  # more would ask more of a generator than such a small one has
        self.real_distance = distance_of_fresh_rows(
            self.distance, self.real, count, seeded_generator(seed)
        )
        super().__init__(epochs, EarlyStop(patience, LUCK * self.real_distance), progress)
        of_nothing = self.distance(self.distance.standardize.mean.unsqueeze(0))
        self.error_bound = self.BOUND * max(1, of_nothing)  # it is large where the data have strays
        self.data, self.watch = data, watch
        self.settings = {
            "seed": seed,
            "epochs": epochs,
            "patience": patience,
            "batch_size": batch_size,
            "lr": lr,
        }
        self.checkpoint: Path | None = None
        self.parts: dict[str, Any] = {}

    def keep(
        self, checkpoint: Path | None, resume: bool, model: nn.Module, parts: dict[str, Any]
    ) -> None:
        """Save to `checkpoint`, after each epoch, where the training stands; `resume`: go on there.

        `parts` are all that changes on the way and has a state_dict, `model` is what is evaluated.
        Failure if there is nothing to go on from; ValueError if that is another training.
        """
        self.checkpoint, self.parts = checkpoint, parts
        rows = self.data.detach().cpu().float().contiguous()
        self.settings["data"] = zlib.crc32(rows.numpy().tobytes())
        if not resume:
            return
        if checkpoint is None or not checkpoint.exists():
            raise Failure(f"no training to go on with, as there is no {checkpoint}; omit --resume")
        try:
            with _quiet():
                state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            settings = state["settings"]
            if settings == self.settings:
                for name, part in parts.items():
                    part.load_state_dict(state["parts"][name])
                self.stop.load_state_dict(state["stop"], model)
                self.history = [Evaluation(**row) for row in state["history"]]
                self.ended = state["ended"]
                set_random_states(state["random"])
        except Exception:  # torch raises errors of many kinds over a file that it cannot read
            raise Failure(f"{checkpoint} is damaged, or of another kind; omit --resume") from None
        if settings != self.settings:
            other = [name for name in self.settings if settings.get(name) != self.settings[name]]
            raise ValueError(f"{checkpoint} is of a training with another {', '.join(other)}")

    def _state(self) -> bytes:
        buffer = io.BytesIO()
        state = {
            "settings": self.settings,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "stop": self.stop.state_dict(),
            "history": [asdict(row) for row in self.history],
            "ended": self.ended,
            "random": random_states(),
        }
        torch.save(state, buffer)
        return buffer.getvalue()

    def evaluate(
        self, generator: nn.Module, latents: Tensor, d_loss: Tensor, g_loss: Tensor
    ) -> None:
        """Measure the generator, as it is after an epoch, on latents (n, LATENT_DIM)."""
        with torch.no_grad():
            samples = generator(latents)
        distance = self.distance(samples)
        row = Evaluation(len(self.history) + 1, d_loss.item(), g_loss.item(), distance)
        self.note(row, distance, generator)
        if self.watch:
            self.watch(row, samples.cpu())
        if self.checkpoint and not self.diverged:
            write_whole(self.checkpoint, self._state())

    def training(self, latents: Tensor) -> Training:
        """The result, the best generator measured once more on fresh latents (n, LATENT_DIM)."""
        best = self.best_model()
        generated = in_blocks(best, latents)
        precision, recall = precision_and_recall(self.real, self.held_out, generated, self.one_unit)
        return Training(
            generator=best,
            held_out=self.held_out,
            distance=self.distance(generated),
            real_distance=self.real_distance,
            precision=precision,
            recall=recall,
            **self.outcome(),
        )


INTERRUPTED: list[int] = []  # signals received; a course ends after the epoch under way


def exit_status() -> int:
    """0, or what the shell expects of a program that a signal has ended."""
    return 128 + INTERRUPTED[0] if INTERRUPTED else 0


@contextlib.contextmanager
def stop_gently() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a training after its epoch; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return

    def note(number: int, _: object) -> None:
        if INTERRUPTED:
            raise KeyboardInterrupt
        INTERRUPTED.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        INTERRUPTED.clear()


# --- Pictures ----------------------------------------------------------------------------------


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")  # or labels may be cut off
    return buffer.getvalue()


# Light and dark, to be told apart in black and white as well
REAL, GENERATED, WRONG = "#9a9a9a", "#0b4f8a", "#b03a00"


def plot_points(real: Tensor, generated: Tensor, history: Sequence[Evaluation]) -> Figure:
    """Real and generated points, their marginal histograms, and the training's history.

    Of points (n, features) the first two columns are shown; a single one, beside zeros.
    """
    real, generated = _plane(real), _plane(generated)
    figure, axes = _figure([["real", "generated", "x"], ["real", "generated", "y"]])
    for name, points, colour in (("real", real, REAL), ("generated", generated, GENERATED)):
        axes[name].scatter(
            points[:, 0].numpy(), points[:, 1].numpy(), s=4, color=colour, linewidths=0
        )
        axes[name].set(title=f"{name}: {len(points):,} points", xlabel="x", ylabel="y")
    axes["generated"].sharex(axes["real"])
    axes["generated"].sharey(axes["real"])
    ends = limits(real)
    axes["real"].set(**ends)
    for i, name in enumerate("xy"):
        bins = np.linspace(*ends[f"{name}lim"], 41).tolist()
        for label, points, style in (
            ("real", real, {"color": REAL}),
            ("generated", generated, {"color": GENERATED, "histtype": "step", "linewidth": 1.5}),
        ):
            weights = np.full(len(points), 100 / len(points))
            axes[name].hist(points[:, i].numpy(), bins, weights=weights, label=label, **style)
        axes[name].set(xlabel=name, ylabel="share in %")
    axes["x"].legend(loc="lower center")
    _plot_history(axes, history)
    return figure


def _plane(points: Tensor) -> Tensor:  # (n, features) -> (n, 2)
    return nn.functional.pad(points, (0, 1))[:, :2]


def limits(points: Tensor) -> dict[str, tuple[float, float]]:
    """What axes have to show for points (n, 2), with a margin."""
    low, high = points.min(dim=0).values, points.max(dim=0).values
    margin = 0.08 * (high - low).where(high > low, 1)
    ends = torch.stack([low - margin, high + margin]).T.tolist()
    return {"xlim": tuple(ends[0]), "ylim": tuple(ends[1])}


def plot_frequencies(real: Tensor, generated: Tensor, history: Sequence[Evaluation]) -> Figure:
    """Frequencies of the integers that one-hot rows (n, depth) stand for, and the history."""
    figure, axes = _figure([["bars", "bars", "bars"]])
    _plot_shares(axes["bars"], one_hot_decode(real), one_hot_decode(generated))
    axes["bars"].set(xlabel="integer")
    _plot_history(axes, history)
    return figure


def plot_images(
    real: Tensor,
    generated: Tensor,
    labels: Tensor,
    classes: Tensor,
    history: Sequence[Evaluation],
) -> Figure:
    """The first 64 real and generated images (n, 784), how often each class comes, the history.

    `labels` are those of all real images, `classes` what the generated ones were recognised as.
    """
    figure, axes = _figure([["real", "generated", "classes"]])
    for name, images in (("real", real), ("generated", generated)):
        axes[name].imshow(image_grid(images[:64], 8), cmap="gray", vmin=0, vmax=1)
        axes[name].set_title(name)
        axes[name].set_axis_off()
    _plot_shares(axes["classes"], labels, classes)
    axes["classes"].set(xlabel="class", xticks=range(int(labels.max()) + 1))
    _plot_history(axes, history)
    return figure


def plot_predictions(
    images: Tensor,
    labels: Tensor,
    predicted: Tensor,
    categories: Sequence[str],
    history: Sequence[Row],
) -> Figure:
    """The first 25 images (n, 784) with what they are taken for, confusions, and the history."""
    tiles = [[str(5 * row + column) for column in range(5)] for row in range(5)]
    figure, axes = _figure([[tiles, "confusion"]], ["loss", "accuracy"])
    for i in range(25):
        axis = axes[str(i)]
        axis.set_axis_off()
        if i < len(images):
            axis.imshow(images[i].view(28, 28).numpy(), cmap="gray_r")
            is_, taken_for = categories[int(labels[i])], categories[int(predicted[i])]
            if is_ == taken_for:
                axis.set_title(taken_for, fontsize=6)
            else:
                axis.set_title(f"{taken_for}\n(is {is_})", fontsize=6, color=WRONG)
    shares = confusion(labels, predicted, len(categories))
    axes["confusion"].imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for i, j in torch.nonzero(shares >= 0.005).tolist():
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes["confusion"].text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center",
            fontsize=7, color=colour)  # fmt: skip
    ticks = range(len(categories))
    axes["confusion"].set(title="% of each category (row) taken for (column)")
    axes["confusion"].set_xticks(ticks, categories, rotation=90)
    axes["confusion"].set_yticks(ticks, categories)
    epochs = [row.epoch for row in history]
    for name in ("training_loss", "validation_loss", "validation_accuracy"):
        part, figure_name = name.split("_")
        colour = REAL if part == "training" else GENERATED
        axes[figure_name].plot(epochs, [getattr(row, name) for row in history], color=colour,
            label=part)  # fmt: skip
    for name in ("loss", "accuracy"):
        axes[name].set(xlabel="epoch", ylabel=name)
        axes[name].legend()
    return figure


def confusion(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Shares (classes, classes) of the images of each class, a row, that are taken for each."""
    counts = (classes * labels + predicted).bincount(minlength=classes**2).view(classes, classes)
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


def image_grid(images: Tensor, columns: int) -> np.ndarray:
    """Square images (n, pixels), row by row, as one with so many columns."""
    side = math.isqrt(images.shape[1])
    rows = math.ceil(len(images) / columns)
    grid = torch.zeros(rows * columns, side, side)
    grid[: len(images)] = images.view(-1, side, side)
    return grid.view(rows, columns, side, side).transpose(1, 2).flatten(2).flatten(0, 1).numpy()


def _plot_shares(axis: Axes, real: Tensor, generated: Tensor) -> None:
    """Bars of how often each integer comes among real ones (n,) and generated ones (m,)."""
    for label, integers, colour, width in (
        ("real", real, REAL, 0.9),
        ("generated", generated, GENERATED, 0.45),
    ):
        share = integers.bincount().numpy() / len(integers)
        axis.bar(np.arange(len(share)), 100 * share, width, color=colour, label=label)
    axis.set(ylabel="share in %")
    axis.margins(y=0.2)  # room for the legend
    axis.legend(loc="upper right", ncols=2)


def plot_path(generated: Tensor, path: Tensor) -> Figure:
    """Points (steps, features) on a walk, light to dark, over generated ones (n, features)."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    x, y = _plane(generated).T.numpy()
    axes.scatter(x, y, s=4, color=REAL, linewidths=0, label="generated")
    x, y = _plane(path).T.numpy()
    axes.plot(x, y, color=GENERATED, linewidth=0.5)
    steps = axes.scatter(
        x, y, c=range(1, len(path) + 1), cmap="Blues", s=40, edgecolors=GENERATED, zorder=3
    )
    figure.colorbar(steps, label="step of the walk")
    axes.set(xlabel="x", ylabel="y")
    axes.legend()
    return figure


def plot_share_by_step(integers: Tensor) -> Figure:
    """How often each integer comes at each step of a walk; integers (n, steps)."""
    depth = int(integers.max()) + 1
    shares = torch.stack([step.bincount(minlength=depth) / len(step) for step in integers.T])
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * shares.T.numpy(), cmap="Blues", origin="lower", aspect="auto",
        extent=(0.5, len(shares) + 0.5, -0.5, depth - 0.5))  # fmt: skip
    figure.colorbar(image, label="share near this step, in %")
    axes.set(xlabel="step of the walk", ylabel="integer")
    return figure


def plot_strips(images: Tensor, steps: int) -> Figure:
    """Walks from image to image, a row each; images (walks * steps, pixels)."""
    figure = Figure(figsize=(0.6 * steps, 0.6 * len(images) / steps))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image_grid(images, steps), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    return figure


class Animation:
    """A training as a GIF: a frame of what is generated after each epoch, called as a `Watch`.

    `draw` brings samples (n, features) into `figure` and gives the artists that change: only they
    are drawn anew. Of a long training every second frame goes, again and again, to keep it small.
    """

    MOST = 40  # frames

    def __init__(self, figure: Figure, draw: Callable[[Tensor], Sequence[Artist]]) -> None:
        self.draw = draw
        self.canvas = FigureCanvasAgg(figure)
        self.title = figure.axes[0].set_title(" ", animated=True)
        self.background: Any = None
        self.frames: list[Image.Image] = []
        self.every = 1  # epochs

    def __call__(self, row: Evaluation, samples: Tensor) -> None:
        """Take note of an epoch."""
        self.latest = row, samples
        if (row.epoch - 1) % self.every == 0:
            self._add(row, samples)
        if len(self.frames) > self.MOST:
            self.frames = self.frames[::2]
            self.every *= 2

    def _add(self, row: Evaluation, samples: Tensor) -> None:
        self.title.set_text(f"epoch {row.epoch}, distance {row.distance:.3f}")
        artists = [self.title, *self.draw(samples)]
        if self.background is None:
            self.canvas.draw()
            self.background = self.canvas.copy_from_bbox(self.canvas.figure.bbox)
        self.canvas.restore_region(self.background)
        for artist in artists:
            self.canvas.figure.draw_artist(artist)
        frame = Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")
        self.frames.append(frame.quantize(32, Image.Quantize.FASTOCTREE))

    def gif(self) -> bytes:
        """The file; it takes some six seconds, and dwells on the first and the last epoch."""
        if (self.latest[0].epoch - 1) % self.every:
            self._add(*self.latest)
        buffer = io.BytesIO()
        durations = [max(6000 // len(self.frames), 60)] * len(self.frames)  # ms
        durations[0], durations[-1] = 1000, 2000
        self.frames[0].save(
            buffer,
            "GIF",
            save_all=True,
            append_images=self.frames[1:],
            duration=durations,
            loop=0,
        )
        return buffer.getvalue()


def animate_points(real: Tensor) -> Animation:
    """Generated points (n, features) over the real ones."""
    real = _plane(real)
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    x, y = real[:1000].T.numpy()
    axes.scatter(x, y, s=4, color=REAL, linewidths=0, label="real")
    axes.set(xlabel="x", ylabel="y", **limits(real))
    dots = axes.scatter([], [], s=4, color=GENERATED, linewidths=0, label="generated")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, markerscale=3)
    dots.set_animated(True)

    def draw(samples: Tensor) -> list[Artist]:
        dots.set_offsets(_plane(samples[:1000]).numpy())
        return [dots]

    return Animation(figure, draw)


def animate_frequencies(real: Tensor) -> Animation:
    """How often each integer is generated, over the real ones; one-hot rows (n, depth)."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    share = 100 * real.mean(dim=0).numpy()
    places = np.arange(len(share))
    axes.bar(places, share, 0.9, color=REAL, label="real")
    bars = axes.vlines(places, 0, share, color=GENERATED, label="generated")  # fast to draw anew
    axes.set(xlabel="integer", ylabel="share in %", ylim=(0, 1.6 * share.max()))
    axes.legend(loc="upper right", ncols=2)
    bars.set_animated(True)

    def draw(samples: Tensor) -> list[Artist]:
        tops = 100 * samples.mean(dim=0).numpy()
        ends = np.stack([places, np.zeros_like(tops), places, tops], axis=1)
        bars.set_segments(list(ends.reshape(-1, 2, 2)))
        return [bars]

    return Animation(figure, draw)


def animate_images() -> Animation:
    """Images (n, pixels) generated from always the same noise."""
    figure = Figure(figsize=(4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    grid = axes.imshow(np.zeros((8 * 28, 8 * 28)), cmap="gray", vmin=0, vmax=1, animated=True)

    def draw(samples: Tensor) -> list[Artist]:
        grid.set_data(image_grid(samples[:64], 8))
        return [grid]

    return Animation(figure, draw)


def _figure(
    top: list[list[Any]], bottom: Sequence[str] = ("losses", "losses", "distance")
) -> tuple[Figure, dict[str, Axes]]:
    figure = Figure(figsize=(10, 7), layout="constrained")
    mosaic: Any = [*top, list(bottom)]
    heights = [3 / len(top)] * len(top) + [1.4]
    return figure, figure.subplot_mosaic(mosaic, height_ratios=heights)


def _plot_history(axes: dict[str, Axes], history: Sequence[Evaluation]) -> None:
    epochs = [row.epoch for row in history]
    for label, colour in (("discriminator", REAL), ("generator", GENERATED)):
        losses = [getattr(row, f"{label}_loss") for row in history]
        axes["losses"].plot(epochs, losses, color=colour, label=label)
    axes["losses"].set(xlabel="epoch", ylabel="loss")
    axes["losses"].legend()
    axes["distance"].plot(epochs, [row.distance for row in history], color=GENERATED)
    axes["distance"].set(xlabel="epoch", ylabel="distance")


# --- Kinds of samples --------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What a training came to: for the eye, in words, and in figures."""

    picture: Figure
    good: bool
    verdict: str
    figures: dict[str, Any]


class Kind(ABC):
    """What differs between points, integers and images on the command line."""

    @abstractmethod
    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the kind's own options to those of every script."""

    @abstractmethod
    def load(self, options: argparse.Namespace, real_samples: Callable[..., Tensor]) -> Tensor:
        """The data (n, features) to learn from."""

    def settings(self, options: argparse.Namespace) -> dict[str, Any]:
        """Arguments for `train` besides those of every script."""
        return {}

    @abstractmethod
    def features(self, real_samples: Callable[..., Tensor]) -> int:
        """How many columns a generator of this kind has to give."""

    @abstractmethod
    def report(self, data: Tensor, generated: Tensor, training: Training) -> Report:
        """Show and judge generated samples (n, features)."""

    @abstractmethod
    def animate(self, data: Tensor) -> Animation:
        """Show how a training on data (n, features) goes."""

    @abstractmethod
    def plot_walk(self, model: nn.Module, steps: int, latent_dim: int) -> Figure:
        """Show what is generated on a walk of so many steps through the latent space."""

    @abstractmethod
    def write(self, samples: Iterator[Tensor], options: argparse.Namespace) -> None:
        """Write samples, which come as blocks (rows, features), so that memory stays flat."""


class Points(Kind):
    """Points (n, features): a line of a CSV file each."""

    number_format = "%.9g"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--data", metavar="FILE", type=Path, help="learn the numbers in a CSV file instead")

    def load(self, options: argparse.Namespace, real_samples: Callable[..., Tensor]) -> Tensor:
        if options.data:
            return self.read(options.data, self.features(real_samples))
        return real_samples(SAMPLES, generator=seeded_generator(options.seed))

    def features(self, real_samples: Callable[..., Tensor]) -> int:
        return real_samples(1).shape[1]

    def read(self, path: Path, features: int) -> Tensor:
        return read_points(path, features)

    def report(self, data: Tensor, generated: Tensor, training: Training) -> Report:
        picture = plot_points(data, generated, training.history)
        return Report(picture, training.converged, describe(training), {})

    def animate(self, data: Tensor) -> Animation:
        return animate_points(data)

    def plot_walk(self, model: nn.Module, steps: int, latent_dim: int) -> Figure:
        return plot_path(model(torch.randn(SAMPLES, latent_dim)), model(walk(steps, latent_dim)))

    def write(self, samples: Iterator[Tensor], options: argparse.Namespace) -> None:
        for i, rows in enumerate(map(self.numbers, samples)):
            if i == 0:
                print(self.header(rows.shape[1]))
            line = ",".join([self.number_format] * rows.shape[1]) + "\n"
            sys.stdout.write(line * len(rows) % tuple(rows.flatten().tolist()))
        sys.stdout.flush()

    def header(self, columns: int) -> str:
        return "x,y" if columns == 2 else ",".join(f"x{i + 1}" for i in range(columns))

    def numbers(self, rows: Tensor) -> Tensor:  # as columns of the file
        return rows


class Integers(Points):
    """Integers as one-hot rows (n, depth): a line of a CSV file each."""

    number_format = "%d"

    def read(self, path: Path, features: int) -> Tensor:
        return read_integers(path, features)

    def report(self, data: Tensor, generated: Tensor, training: Training) -> Report:
        missing = missing_values(*map(one_hot_decode, (training.held_out, generated)))
        picture = plot_frequencies(data, generated, training.history)
        good = training.converged and not missing
        return Report(picture, good, describe(training, missing), {"missing_values": missing})

    def animate(self, data: Tensor) -> Animation:
        return animate_frequencies(data)

    def plot_walk(self, model: nn.Module, steps: int, latent_dim: int) -> Figure:
        near = 0.95 * walk(steps, latent_dim) + 0.3 * torch.randn(SAMPLES, 1, latent_dim)
        return plot_share_by_step(torch.stack([one_hot_decode(model(rows)) for rows in near]))

    def header(self, columns: int) -> str:
        return "integer"

    def numbers(self, rows: Tensor) -> Tensor:
        return one_hot_decode(rows).unsqueeze(1)


class Images(Kind):
    """Images (n, 784), 0 black to 1 white, of classes that real ones are labelled with."""

    labels: Tensor  # (n,) of the data loaded

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--dataset", choices=["mnist", "fashion"], default="mnist", help="(%(default)s)")
        add_data_dir(parser)
        add("--format", choices=["png", "npz"], default="png",
            help="of generated images: a folder of them, or one array (%(default)s)")  # fmt: skip
        add("--resume", action="store_true",
            help="go on with a training that was interrupted, or killed")  # fmt: skip

    def load(self, options: argparse.Namespace, real_samples: Callable[..., Tensor]) -> Tensor:
        images, self.labels = load_images(options.dataset, options.data_dir)
        return images

    def settings(self, options: argparse.Namespace) -> dict[str, Any]:
        return {"checkpoint": options.out / CHECKPOINT, "resume": options.resume}

    def features(self, _: Callable[..., Tensor]) -> int:
        return 28 * 28

    def report(self, data: Tensor, generated: Tensor, training: Training) -> Report:
        some = torch.randperm(len(data), generator=seeded_generator(0))[: len(generated)]
        _, plain_of_real = recognise(data[some], data, self.labels, among_real=True)
        classes, plain = recognise(generated, data, self.labels)
        missing = missing_values(self.labels, classes[plain])
        share, real_share = plain.float().mean().item(), plain_of_real.float().mean().item()
        verdict = (
            f"{share:.0%} of the generated images are plainly of one class, of real ones "
            f"{real_share:.0%}; classes missing: {', '.join(map(str, missing)) or 'none'}; "
            f"{distance_in_words(training)}"
        )
        near = training.ratio <= NEAR_FOR_IMAGES
        good = near and share >= PLAIN * real_share and not missing
        verdict = f"Good: {verdict}." if good else f"WARNING, not good: {verdict}. {REMEDY}"
        picture = plot_images(data[some], generated, self.labels, classes, training.history)
        figures = {"plain": share, "plain_of_real": real_share, "missing_values": missing}
        return Report(picture, good, verdict, figures)

    def animate(self, data: Tensor) -> Animation:
        return animate_images()

    def plot_walk(self, model: nn.Module, steps: int, latent_dim: int) -> Figure:
        walks = [walk(steps, latent_dim, stops=2) for _ in range(8)]
        return plot_strips(model(torch.cat(walks)), steps)

    def write(self, samples: Iterator[Tensor], options: argparse.Namespace) -> None:
        pixels = ((255 * rows).round().byte().view(-1, 28, 28).numpy() for rows in samples)
        save = save_npz if options.format == "npz" else save_pngs
        with reserved(options.out):
            print(f"Saved in {save(options.out, pixels, options.generate)}")


REMEDY = "Try more --epochs, another --seed or a lower --lr."
# Images count as good up to this ratio, and with this share of what is plain among real ones: worse
# have more than ten times the Frechet distance of two halves of the digits
NEAR_FOR_IMAGES, PLAIN = 1.6, 0.9


def missing_values(real: Tensor, generated: Tensor) -> list[int]:
    """Integers among real ones (n,) that generated ones (m,) have less than a fifth of."""
    depth = int(max(real.max(), generated.max() if len(generated) else 0)) + 1
    due, got = (
        integers.bincount(minlength=depth) / max(len(integers), 1) for integers in (real, generated)
    )
    return torch.nonzero((due > 0) & (got < due / 5)).flatten().tolist()


def distance_in_words(training: Training) -> str:
    """The distance to held-out samples, beside what real ones would have."""
    return (
        f"distance {training.distance:.3f} to {len(training.held_out):,} held-out real samples, "
        f"where fresh real samples would have up to {training.real_distance:.3f}"
    )


def describe(training: Training, missing: Sequence[int] = ()) -> str:
    """How good a generator is, in plain words, from held-out real samples alone."""
    facts = (
        f"{distance_in_words(training)}; "
        f"{training.precision:.1%} of the generated lie near real ones, "
        f"{training.recall:.1%} of the held-out near generated ones"
    )
    if missing:
        values = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        facts += f"; {len(missing)} of the values are (nearly) missing: {values}"
    if training.converged and not missing:
        return f"Good: {facts}."
    return f"WARNING, not converged: {facts}. {REMEDY}"


def describe_predictions(
    labels: Tensor, predicted: Tensor, categories: Sequence[str]
) -> dict[str, Any]:
    """How many test images, in all and of each category, are taken for what they are."""
    accuracy = (predicted == labels).float().mean().item()
    of_each = confusion(labels, predicted, len(categories)).diag().tolist()
    by_category = dict(zip(categories, of_each, strict=True))
    each = ", ".join(f"{name} {share:.0%}" for name, share in by_category.items())
    return {
        "verdict": f"{accuracy:.1%} of {len(labels):,} test images are right: {each}.",
        "test_accuracy": accuracy,
        "test_accuracy_by_category": by_category,
    }


# --- Command line ------------------------------------------------------------------------------

SAMPLES = 2048  # real ones, drawn anew for each seed
CHECKPOINT = "checkpoint.pth"  # of a training under way, beside its results
CHUNK = 4096  # rows generated at a time: what a layer makes of them fits a core's cache


def run(
    argv: Sequence[str] | None,
    script: str,
    about: str,
    kind: Kind,
    latent_dim: int,
    real_samples: Callable[..., Tensor],
    train: Callable[..., Training],
) -> int:
    """The command line of a GAN script: train, or use what was saved. Gives the exit status."""
    parser = training_parser(f"{script}_gan.py", about, Path("outputs", script), train)
    kind.add_options(parser)

    add = parser.add_argument
    add("--generate", metavar="N", type=whole, help="no training: write N generated samples")
    add("--interpolate", metavar="N", type=whole,
        help="no training: walk the latent space in N steps, save a picture")  # fmt: skip
    add("--animate", action="store_true", help="also save the training as a GIF")
    options = parser.parse_args(argv)

    def use_saved() -> int:
        features = kind.features(real_samples)
        model = load_torchscript(options.out / "generator.pt", latent_dim, features)
        if options.generate:
            kind.write(generate(model, latent_dim, options.generate, options.seed), options)
        if options.interpolate:
            path = options.out / "interpolation.png"
            torch.manual_seed(options.seed)
            picture = png(kind.plot_walk(model, options.interpolate, latent_dim))
            with reserved(options.out):
                write_whole(path, picture)
            print(f"Saved in {path}", file=sys.stderr if options.generate else sys.stdout)
        return 0

    def work() -> int:
        if options.generate or options.interpolate:
            return use_saved()
        settings = training_settings(options) | kind.settings(options)
        data = kind.load(options, real_samples)
        with reserved(options.out), stop_gently():
            animation = kind.animate(data) if options.animate else None
            training = train(data, **settings, watch=animation)
            gif = {"training.gif": animation.gif()} if animation and animation.frames else {}
            print(save_training(training, data, options.out, kind, latent_dim, options.seed, gif))
            if not training.interrupted:
                (options.out / CHECKPOINT).unlink(missing_ok=True)
            elif settings.get("checkpoint"):
                print("To go on from there, add --resume.")
            status = exit_status()
        if options.show:
            show_picture(options.out / "samples.png")
        return status

    return reporting(script, work)


def reporting(script: str, work: Callable[[], int]) -> int:
    """Do the work, and give its exit status; of what went wrong, one line on standard error."""
    mend_streams()

    def complain(reason: object, status: int = 1) -> int:
        print(f"{script}: {reason}", file=sys.stderr)
        return status

    try:
        with within_memory():
            status = work()
        sys.stdout.flush()
        return status
    except Failure as failure:
        return complain(failure)
    except ValueError as error:
        return complain(error, 2)
    except BrokenPipeError:  # nobody reads on, as in `--generate 1000 | head`
        return 0
    except OSError as error:
        return complain(f"cannot save: {error.strerror}; make room, or choose another --out")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return complain("there is not enough memory; lower --batch-size, or learn from less data")
    except KeyboardInterrupt:
        return complain("interrupted, nothing was saved", 130)
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # or Python would complain of it at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def within_memory() -> Iterator[None]:
    """Let what would need more memory than there is fail, where Linux would kill us."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists() or torch.accelerator.is_available():  # whose drivers map what they like
        yield
        return
    import resource  # which Windows does not have

    figures = meminfo.read_text() + Path("/proc/self/status").read_text()
    available, used = (
        1024 * int(re.findall(rf"{name}:\s+(\d+)", figures)[0])
        for name in ("MemAvailable", "VmData")
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + available if soft == resource.RLIM_INFINITY else min(soft, used + available)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def mend_streams() -> None:
    """Without a standard stream, write to nowhere; escape what is not in a stream's encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, as by 2>&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - to stay open
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def generate(model: nn.Module, latent_dim: int, rows: int, seed: int) -> Iterator[Tensor]:
    """Generated samples (rows, features), in blocks."""
    random = seeded_generator(seed)
    for start in range(0, rows, CHUNK):
        latents = torch.randn(min(CHUNK, rows - start), latent_dim, generator=random)
        with torch.no_grad():
            yield model(latents)


def walk(steps: int, latent_dim: int, stops: int = 4) -> Tensor:
    """Latents (steps, latent_dim) on the way from one random stop to the next.

    On arcs, so that those between are as normal as the stops (White 2016); a straight line would
    pass near the middle, where normal noise hardly ever is.
    """
    stop = torch.randn(stops, latent_dim)
    way = torch.linspace(0, stops - 1, steps)
    last = way.floor().long().clamp(max=stops - 2)
    angle = (math.pi / 2 * (way - last)).unsqueeze(1)
    return angle.cos() * stop[last] + angle.sin() * stop[last + 1]


def save_training(
    training: Training,
    data: Tensor,
    folder: Path,
    kind: Kind,
    latent_dim: int,
    seed: int,
    more: dict[str, bytes],
) -> str:
    """Save all that a training gave, and more files, and put in words what it came to."""
    random = seeded_generator(seed + 1)  # other samples than those that chose the best
    latents = torch.randn(SAMPLES, latent_dim, generator=random)
    report = kind.report(data, training.generator(latents), training)
    facts = {
        "verdict": report.verdict,
        "converged": report.good,
        "distance": training.distance,
        "distance_of_real_samples": training.real_distance,
        "ratio": training.ratio,
        "precision": training.precision,
        "recall": training.recall,
        **report.figures,
        "samples": len(data),
        "seed": seed,
    }
    files = model_files("generator", training.generator, latents) | more
    return save_results(folder, training, facts, files, report.picture)


def save_results(
    folder: Path,
    outcome: Outcome,
    facts: dict[str, Any],
    files: dict[str, bytes],
    picture: Figure,
) -> str:
    """Save how a training went, beside files already made, and sum it up in words.

    Among the facts are a "verdict" in words and the number of "samples" learned from.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(field.name for field in fields(outcome.history[0]))
    writer.writerows(asdict(row).values() for row in outcome.history)
    metrics = facts | {
        "epochs": len(outcome.history),
        "best_epoch": outcome.best_epoch,
        "interrupted": outcome.interrupted,
        "diverged": outcome.diverged,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    files |= {
        "samples.png": png(picture),
        "history.csv": table.getvalue().encode(),
        "metrics.json": json.dumps(metrics, indent=2).encode() + b"\n",
    }
    write_all(folder, files)
    ending = "interrupted" if outcome.interrupted else "ended"
    if outcome.diverged:
        ending += " as it diverged (lower --lr)"
    return (
        f"Learned from {facts['samples']:,} samples, {ending} after epoch {len(outcome.history)}, "
        f"best at epoch {outcome.best_epoch}.\n"
        f"{facts['verdict']}\nSaved in {folder}: {', '.join(files)}"
    )


def show_picture(path: Path) -> None:
    """Open a saved picture in a window, and wait until it is closed."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 7), layout="constrained")
    axes.imshow(plt.imread(path))
    axes.set_axis_off()
    plt.show()
    plt.close(figure)


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def whole(text: str, least: int = 1) -> int:
    """The type of an option: an integer of at least `least`."""
    if not text.isdecimal() or not least <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}")
    return int(text)


def _seed(text: str) -> int:
    return whole(text, least=0)


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")


def training_parser(
    program: str, about: str, out: Path, train: Callable[..., Any]
) -> argparse.ArgumentParser:
    """A parser of the options that every script has; the defaults are those of `train`."""
    parser = _OneLineParser(
        program,
        description=about,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seed", metavar="N", type=_seed, help="everything random follows from it (0)")
    add("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps (auto)")
    add("--epochs", metavar="N", type=whole, help="epochs at most (%(default)s)")
    add("--patience", metavar="N", type=whole, help="stop after N without a better (%(default)s)")
    add("--batch-size", metavar="N", type=whole, help="real samples a step (the script's own)")
    add("--lr", metavar="X", type=_rate, help="learning rate (%(default)s)")
    add("--out", metavar="DIR", type=Path, help="where results go (%(default)s)")
    add("--show", action="store_true", help="open the picture in a window")
    add("--quiet", action="store_true", help="no progress bar")
    arguments = inspect.signature(train).parameters.values()
    defaults = {each.name: each.default for each in arguments if each.default is not each.empty}
    parser.set_defaults(**defaults | {"device": "auto", "out": out})
    return parser


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Where images lie, or are downloaded to."""
    parser.add_argument("--data-dir", metavar="DIR", type=Path, default=Path("data"),
        help="where the images lie, or are downloaded to (%(default)s)")  # fmt: skip


def training_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments for `train` that the options stand for."""
    return {
        "seed": options.seed,
        "device": choose_device(options.device),
        "progress": not options.quiet,
        "epochs": options.epochs,
        "patience": options.patience,
        "batch_size": options.batch_size,
        "lr": options.lr,
    }
