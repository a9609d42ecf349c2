"""What the scripts share, so that each of them can keep to its one concept.

In order: randomness and device, data, distance, training, files, pictures, command line.
Copy this file along with the script that you copy; nothing else of the collection is needed.
"""

import argparse
import contextlib
import copy
import csv
import functools
import inspect
import io
import json
import math
import os
import platform
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm.auto import tqdm


class Failure(Exception):
    """It could not be done: the message says in one line what, and what to do about it."""


# --- Randomness and device ---------------------------------------------------------------------


def seeded_generator(seed: int) -> torch.Generator:
    """A source of random numbers of its own, on the CPU, that follows from `seed`."""
    return torch.Generator().manual_seed(seed)


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is the accelerator that torch reports, else the CPU.

    Raises ValueError, naming the devices that are there, for one that is not.
    """
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


def check_rows(rows: Tensor) -> None:
    """ValueError unless `rows` is a float tensor (n, features), neither of them 0, and finite."""
    if not isinstance(rows, Tensor) or not rows.is_floating_point():
        raise ValueError(f"data must be a tensor of floats, not {_type_name(rows)}")
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"data must have shape (n, features), not {tuple(rows.shape)}")
    if not rows.isfinite().all():
        raise ValueError("data must be finite, but holds NaN or infinity")


def check_count(name: str, value: int) -> None:
    """ValueError unless `value` is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")


def hold_out(data: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
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
    groups = neighbours(Standardize(rows[some])(rows[some]), count, generator)
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
    """Rows (n, features) in the data's units to mean 0 and standard deviation 1 in each column."""

    mean: Tensor  # (features,)
    deviation: Tensor

    def __init__(self, data: Tensor) -> None:
        super().__init__()
        columns = data.detach().cpu().unbind(dim=1)
        # double, as float32 loses the spread of columns far from zero; one by one, to save room
        moments = [torch.std_mean(column.double(), correction=0) for column in columns]
        deviation, mean = (torch.stack(moment) for moment in zip(*moments, strict=True))
        constant = torch.stack([(column == column[0]).all() for column in columns])
        self.register_buffer("mean", mean.float())
        self.register_buffer("deviation", deviation.where(~constant, 0).float())  # but for rounding

    def forward(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.deviation.where(
            self.deviation > 0, torch.ones_like(self.deviation)
        )


class Restore(Standardize):
    """The way back: standardised rows to rows in the data's units; a constant column is exact."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.deviation + self.mean


# --- Distance ----------------------------------------------------------------------------------


class SlicedWasserstein:
    """Distance of samples to `real` ones: sliced 2-Wasserstein (Bonneel et al. 2015).

    Both are standardised, projected on fixed random directions and sorted; the root mean square of
    the differences is averaged over directions. It rises for points off the real ones as well as
    for real ones left out. Its unit is a standard deviation of the `scale` rows (`real` itself).
    """

    def __init__(self, real: Tensor, scale: Tensor | None = None, directions: int = 64) -> None:
        """`real` and `scale` have shape (n, features); ValueError if empty or not finite."""
        check_rows(real)
        self.standardize = Standardize(real if scale is None else scale)
        normal = torch.randn(directions, real.shape[1], generator=seeded_generator(0))
        self.directions = normal / normal.norm(dim=1, keepdim=True)
        self.real = self._sorted_projections(real)

    def _sorted_projections(self, rows: Tensor) -> Tensor:  # (n, features) -> (directions, n)
        projections = self.directions @ self.standardize(rows.detach().cpu().float()).T
        return torch.from_numpy(np.sort(projections.numpy(), axis=1))  # faster than torch's

    def __call__(self, samples: Tensor) -> float:
        """The distance of `samples` (m, features), any m; infinite if one of them is not finite."""
        if samples.ndim != 2 or len(samples) == 0 or samples.shape[1] != self.directions.shape[1]:
            expected = f"(n, {self.directions.shape[1]})"
            raise ValueError(f"samples must have shape {expected}, not {tuple(samples.shape)}")
        if not samples.isfinite().all():
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


def precision_and_recall(real: Tensor, held_out: Tensor, generated: Tensor) -> tuple[float, float]:
    """Share of generated rows near real ones, and of held-out rows near generated ones.

    Near a real row is whatever is no further than its fifth nearest real one, or a tenth of a
    standard deviation (improved precision and recall, Kynkaanniemi et al. 2019); twice that for a
    held-out one, which may have none near by luck. A distance sums up all rows; these two notice
    the few that are astray, and the rare ones that are left out. All have shape (n, features), any
    n; at most 2,048 rows of each are looked at, drawn by lot.
    """
    standardize, random = Standardize(real), seeded_generator(0)

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


def in_blocks(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """function(rows), for a function of each row by itself, in little memory."""
    return torch.cat([function(block) for block in rows.split(256)])


# --- Training ----------------------------------------------------------------------------------


def batches(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Batches (size, features) of rows (n, features), without end, each row as often as any other.

    Rows drawn by lot instead would leave the discriminator to learn from the luck of the draw.
    """
    indices = torch.empty(0, dtype=torch.int64, device=rows.device)
    while True:
        while len(indices) < size:
            indices = torch.cat([indices, torch.randperm(len(rows), device=rows.device)])
        yield rows[indices[:size]]
        indices = indices[size:]


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


@torch.no_grad()
def move_towards(average: nn.Module, model: nn.Module, share: float) -> None:
    """Exponential moving average of weights: move `average` by `share` of the way to `model`."""
    update = get_ema_multi_avg_fn(1 - share)
    update(list(average.parameters()), list(model.parameters()), 0)


@dataclass(frozen=True)
class Evaluation:
    """One row of a training's history."""

    epoch: int
    discriminator_loss: float
    generator_loss: float
    distance: float


class EarlyStop:
    """Keeps the best model by distance; says stop after `patience` evaluations without a better.

    Distances up to `noise` cannot be told apart: among them the later model counts as the better.
    """

    def __init__(self, patience: int, noise: float = 0.0) -> None:
        check_count("patience", patience)
        self.patience = patience
        self.noise = noise
        self.best_distance = math.inf
        self.best_model: nn.Module | None = None
        self.best_at = 0  # the number of the evaluation, counted from 1
        self.evaluations = 0

    def update(self, distance: float, model: nn.Module) -> bool:
        """Take note of an evaluation; True when it is time to stop. NaN is never the best."""
        self.evaluations += 1
        if distance < max(self.best_distance, self.noise) or self.best_model is None:
            self.best_distance = math.inf if math.isnan(distance) else distance
            self.best_model = copy.deepcopy(model)
            self.best_at = self.evaluations
        return self.evaluations - self.best_at >= self.patience


@dataclass(frozen=True)
class Training:
    """What a training gives back."""

    generator: nn.Module  # the best one, on the CPU, in eval mode, in the data's own units
    history: list[Evaluation]
    best_epoch: int
    held_out: Tensor  # (n, features), the real rows that it was measured on and never saw
    distance: float  # of generated samples to the held-out rows
    real_distance: float  # of the furthest of 20 fresh real samples, as large as the data, to them
    precision: float  # share of generated samples that lie near real ones
    recall: float  # share of the held-out rows that have generated samples near them
    interrupted: bool

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


class Course:
    """The course of one training, epoch by epoch: `for epoch in course`.

    Holds out real rows, shows progress, keeps history and the best generator. Ends after the last
    epoch, when patience is spent, when a loss is not finite any more, or when interrupted.
    """

    def __init__(
        self,
        data: Tensor,
        seed: int,
        epochs: int,
        patience: int,
        batch_size: int | None,
        lr: float,
        progress: bool,
    ) -> None:
        check_rows(data)
        check_count("epochs", epochs)
        check_count("batch_size", 1 if batch_size is None else batch_size)
        if batch_size is not None and batch_size > len(data):
            raise ValueError(f"batch_size {batch_size} is larger than the data, {len(data)} rows")
        if not (isinstance(lr, float | int) and 0 < lr < math.inf):
            raise ValueError(f"lr must be a positive number, not {lr!r}")
        self.epochs, self.progress = epochs, progress
        self.history: list[Evaluation] = []
        torch.manual_seed(seed)
        self.real, self.held_out = hold_out(data, seeded_generator(seed))
        self.distance = SlicedWasserstein(self.held_out, scale=self.real)
        count = min(len(data), 2048)  # more would ask more of a generator than such a small one has
        self.real_distance = distance_of_fresh_rows(
            self.distance, self.real, count, seeded_generator(seed)
        )
        self.stop = EarlyStop(patience, noise=LUCK * self.real_distance)
        self.ended = False

    def __iter__(self) -> Iterator[int]:
        with tqdm(total=self.epochs, unit="epoch", disable=not self.progress, leave=False) as bar:
            for epoch in range(1, self.epochs + 1):
                yield epoch
                last = self.history[-1]
                bar.set_postfix(
                    D=f"{last.discriminator_loss:.3f}", G=f"{last.generator_loss:.3f}",
                    distance=f"{last.distance:.3f}", refresh=False,
                )  # fmt: skip
                bar.update()
                if self.ended or INTERRUPTED:
                    return

    def evaluate(
        self, generator: nn.Module, latents: Tensor, d_loss: Tensor, g_loss: Tensor
    ) -> None:
        """Measure the generator, as it is after an epoch, on latents (n, LATENT_DIM)."""
        with torch.no_grad():
            distance = self.distance(generator(latents))
        losses = d_loss.item(), g_loss.item()
        self.history.append(Evaluation(len(self.history) + 1, *losses, distance))
        self.ended = self.stop.update(distance, generator) or not all(map(math.isfinite, losses))

    def training(self, latents: Tensor) -> Training:
        """The result, the best generator measured once more on fresh latents (n, LATENT_DIM)."""
        assert self.stop.best_model is not None, "evaluate was never called"
        best = self.stop.best_model.eval().cpu().requires_grad_(False)
        generated = in_blocks(best, latents)
        precision, recall = precision_and_recall(self.real, self.held_out, generated)
        return Training(
            generator=best,
            history=self.history,
            best_epoch=self.stop.best_at,
            held_out=self.held_out,
            distance=self.distance(generated),
            real_distance=self.real_distance,
            precision=precision,
            recall=recall,
            interrupted=bool(INTERRUPTED),
        )


INTERRUPTED: list[int] = []  # signals received; a course ends after the epoch under way


@contextlib.contextmanager
def stop_gently() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a training after its epoch; a second one ends it at once."""

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


# --- Files -------------------------------------------------------------------------------------


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside its place, then moved into it."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def prepare_folder(folder: Path) -> None:
    """Make the folder for results; Failure, before any work is done, if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / ".writable", b"")
        (folder / ".writable").unlink()
    except OSError as error:
        raise Failure(f"cannot write to {folder}: {error.strerror}; choose another --out") from None


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
    """TorchScript works, but torch warns of its successor with every call."""
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
    """A CSV file of two numbers a line as points (n, 2)."""
    largest = torch.finfo(torch.float32).max
    return read_numbers(
        path,
        "two finite numbers",
        lambda row: len(row) == features and all(abs(number) <= largest for number in row),
    )


def read_integers(path: Path, depth: int) -> Tensor:
    """A CSV file of one integer a line as one-hot rows (n, depth)."""
    integers = read_numbers(
        path,
        f"an integer in 0..{depth - 1}",
        lambda row: len(row) == 1 and row[0] in range(depth),
    )
    return one_hot_encode(integers.flatten().long(), depth)


# --- Pictures ----------------------------------------------------------------------------------

REAL, GENERATED = "#9a9a9a", "#0b4f8a"  # light and dark: told apart in black and white as well


def plot_points(real: Tensor, generated: Tensor, history: Sequence[Evaluation]) -> Figure:
    """Real and generated points (n, 2), their marginal histograms, and the training's history."""
    figure, axes = _figure([["real", "generated", "x"], ["real", "generated", "y"]])
    for name, points, colour in (("real", real, REAL), ("generated", generated, GENERATED)):
        axes[name].scatter(
            points[:, 0].numpy(), points[:, 1].numpy(), s=4, color=colour, linewidths=0
        )
        axes[name].set(title=f"{name}: {len(points):,} points", xlabel="x", ylabel="y")
    axes["generated"].sharex(axes["real"])
    axes["generated"].sharey(axes["real"])
    low, high = real.min(dim=0).values, real.max(dim=0).values
    margin = 0.08 * (high - low).where(high > low, 1)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    axes["real"].set(xlim=(left, right), ylim=(bottom, top))
    for i, name in enumerate("xy"):
        bins = np.linspace((left, bottom)[i], (right, top)[i], 41).tolist()
        axes[name].hist(real[:, i].numpy(), bins, density=True, color=REAL, label="real")
        axes[name].hist(generated[:, i].numpy(), bins, density=True, color=GENERATED,
                        histtype="step", linewidth=1.5, label="generated")  # fmt: skip
        axes[name].set(xlabel=name, ylabel="density")
    axes["x"].legend(loc="lower center")
    _plot_history(axes, history)
    return figure


def plot_frequencies(real: Tensor, generated: Tensor, history: Sequence[Evaluation]) -> Figure:
    """Frequencies of the integers that one-hot rows (n, depth) stand for, and the history."""
    figure, axes = _figure([["bars", "bars", "bars"]])
    values = np.arange(real.shape[1])
    for label, rows, colour, width in (
        ("real", real, REAL, 0.9),
        ("generated", generated, GENERATED, 0.45),
    ):
        share = one_hot_decode(rows).bincount(minlength=len(values)).numpy() / len(rows)
        axes["bars"].bar(values, 100 * share, width, color=colour, label=label)
    axes["bars"].set(xlabel="integer", ylabel="share in %")
    axes["bars"].legend(loc="upper right", ncols=2)
    _plot_history(axes, history)
    return figure


def _figure(top: list[list[str]]) -> tuple[Figure, dict[str, Axes]]:
    figure = Figure(figsize=(10, 7), layout="constrained")
    mosaic: Any = [*top, ["losses", "losses", "distance"]]
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


# --- Command line ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """How samples of one kind are read, written, drawn and judged."""

    columns: str  # the header of a CSV file
    number_format: str
    read: Callable[[Path, int], Tensor]  # (file, features) -> data (n, features)
    decode: Callable[[Tensor], Tensor]  # samples (n, features) -> numbers (n, columns)
    plot: Callable[[Tensor, Tensor, Sequence[Evaluation]], Figure]
    missing: Callable[[Tensor, Tensor], list[int]]  # (held out, generated) -> values left out


def missing_values(held_out: Tensor, generated: Tensor) -> list[int]:
    """Values among held-out one-hot rows that generated ones have less than a fifth of."""
    due, got = (
        one_hot_decode(rows).bincount(minlength=rows.shape[1]) / len(rows)
        for rows in (held_out, generated)
    )
    return torch.nonzero((due > 0) & (got < due / 5)).flatten().tolist()


POINTS = Kind("x,y", "%.9g", read_points, lambda points: points, plot_points, lambda *_: [])
INTEGERS = Kind(
    "integer",
    "%d",
    read_integers,
    lambda rows: one_hot_decode(rows).unsqueeze(1),
    plot_frequencies,
    missing_values,
)

SAMPLES = 2048  # real ones, drawn anew for each seed
CHUNK = 4096  # rows generated at a time: what a layer makes of them fits a core's cache


def run(
    argv: Sequence[str] | None,
    *,
    script: str,
    about: str,
    kind: Kind,
    latent_dim: int,
    real_samples: Callable[..., Tensor],
    train: Callable[..., Training],
) -> int:
    """The command line of a script: train, or use what was saved. Gives the exit status."""
    options = _parser(script, about, train).parse_args(argv)
    features = real_samples(1).shape[1]
    try:
        if options.generate:
            model = load_torchscript(options.out / "generator.pt", latent_dim, features)
            write_samples(model, kind, latent_dim, options.generate, options.seed)
            return 0
        if options.data:
            data = kind.read(options.data, features)
        else:
            data = real_samples(SAMPLES, generator=seeded_generator(options.seed))
        device = choose_device(options.device)
        prepare_folder(options.out)
        with stop_gently():
            training = train(
                data,
                seed=options.seed,
                device=device,
                progress=not options.quiet,
                epochs=options.epochs,
                patience=options.patience,
                batch_size=options.batch_size,
                lr=options.lr,
            )
            status = 128 + INTERRUPTED[0] if INTERRUPTED else 0
            report = save_training(training, data, options.out, kind, latent_dim, options.seed)
        print(report)
        if options.show:
            show_picture(options.out / "samples.png")
        return status
    except (Failure, ValueError) as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    except BrokenPipeError:  # nobody reads on, as in `--generate 1000 | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        reason = f"cannot save: {error.strerror}; make room, or choose another --out"
        print(f"{script}: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{script}: interrupted, nothing was saved", file=sys.stderr)
        return 130


def write_samples(model: nn.Module, kind: Kind, latent_dim: int, rows: int, seed: int) -> None:
    """Write generated samples as CSV to standard output, some at a time, so that memory is flat."""
    random = seeded_generator(seed)
    print(kind.columns)
    line = ",".join([kind.number_format] * len(kind.columns.split(","))) + "\n"
    for start in range(0, rows, CHUNK):
        latents = torch.randn(min(CHUNK, rows - start), latent_dim, generator=random)
        with torch.no_grad():
            numbers = kind.decode(model(latents))
        sys.stdout.write(line * len(numbers) % tuple(numbers.flatten().tolist()))
    sys.stdout.flush()


def save_training(
    training: Training, data: Tensor, folder: Path, kind: Kind, latent_dim: int, seed: int
) -> str:
    """Save all that a training gave, and put in words what it came to."""
    random = seeded_generator(seed + 1)  # other samples than those that chose the best
    latents = torch.randn(SAMPLES, latent_dim, generator=random)
    generated = training.generator(latents)
    missing = kind.missing(training.held_out, generated)
    verdict = describe(training, missing)
    picture, table = io.BytesIO(), io.StringIO()
    figure = kind.plot(data, generated, training.history)
    figure.savefig(picture, format="png", dpi=120, bbox_inches="tight")  # or labels may be cut off
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(field.name for field in fields(Evaluation))
    writer.writerows(asdict(row).values() for row in training.history)
    metrics = {
        "verdict": verdict,
        "converged": training.converged and not missing,
        "distance": training.distance,
        "distance_of_real_samples": training.real_distance,
        "ratio": training.ratio,
        "precision": training.precision,
        "recall": training.recall,
        "missing_values": missing,
        "samples": len(data),
        "epochs": len(training.history),
        "best_epoch": training.best_epoch,
        "interrupted": training.interrupted,
        "seed": seed,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    files = {
        "generator.pt": torchscript(training.generator, latents),
        "generator.pt2": exported(training.generator, latents),
        "samples.png": picture.getvalue(),
        "history.csv": table.getvalue().encode(),
        "metrics.json": json.dumps(metrics, indent=2).encode() + b"\n",
    }
    for name, content in files.items():
        write_whole(folder / name, content)
    ending = "interrupted" if training.interrupted else "ended"
    return (
        f"Learned from {len(data):,} samples, {ending} after epoch {len(training.history)}, "
        f"best at epoch {training.best_epoch}.\n{verdict}\nSaved in {folder}: {', '.join(files)}"
    )


def describe(training: Training, missing: list[int]) -> str:
    """How good a generator is, in plain words, from held-out real samples alone."""
    facts = (
        f"distance {training.distance:.3f} to {len(training.held_out):,} held-out real samples, "
        f"where fresh real samples would have up to {training.real_distance:.3f}; "
        f"{training.precision:.1%} of the generated lie near real ones, "
        f"{training.recall:.1%} of the held-out near generated ones"
    )
    if missing:
        values = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        facts += f"; {len(missing)} of the values are (nearly) missing: {values}"
    if training.converged and not missing:
        return f"Good: {facts}."
    return f"WARNING, not converged: {facts}. Try more --epochs, another --seed or a lower --lr."


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


def _whole(text: str, least: int = 1) -> int:
    if not text.isdecimal() or not least <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}")
    return int(text)


def _seed(text: str) -> int:
    return _whole(text, least=0)


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")


def _parser(script: str, about: str, train: Callable[..., Training]) -> argparse.ArgumentParser:
    parser = _OneLineParser(
        f"{script}_gan.py",
        description=about,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seed", metavar="N", type=_seed, help="everything random follows from it (0)")
    add("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps (auto)")
    add("--epochs", metavar="N", type=_whole, help="epochs at most (%(default)s)")
    add("--patience", metavar="N", type=_whole, help="stop after N without a better (%(default)s)")
    add("--batch-size", metavar="N", type=_whole, help="real samples a step (the script's own)")
    add("--lr", metavar="X", type=_rate, help="learning rate of the generator (%(default)s)")
    add("--out", metavar="DIR", type=Path, help="where results go (%(default)s)")
    add("--data", metavar="FILE", type=Path, help="learn the numbers in a CSV file instead")
    add("--generate", metavar="N", type=_whole, help="no training: print N samples as CSV")
    add("--show", action="store_true", help="open the picture in a window")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(
        **{name: default.default for name, default in inspect.signature(train).parameters.items()}
        | {"data": None, "device": "auto", "out": Path("outputs", script)}
    )
    return parser
