"""What the scripts share: copy this file along with the script that you copy.

In order: device and codec, data, parts of a loop, distance, training, pictures, files, commands.
"""

import argparse
import csv
import functools
import hashlib
import inspect
import io
import json
import math
import os
import shutil
import signal
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self, TextIO

import matplotlib.figure
import numpy as np
import torch
from filelock import FileLock, Timeout  # which torch needs as well
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image  # which matplotlib needs as well
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm


class Failure(Exception):
    """It could not be done: the message says in one line what, and what to do about it."""


class NotPrinted(Exception):
    """Standard output is full or closed; its cause is the error."""


class InputError(ValueError):
    """What was given cannot be used, an option or data: the message says in one line why."""


# --- Device and codec --------------------------------------------------------------------------


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device called `name`; "auto" is an accelerator or the CPU. ValueError if not there."""
    count = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    present = ["cpu", *(f"{torch.accelerator.current_accelerator()}:{i}" for i in range(count))]
    name = present[-1].split(":")[0] if name == "auto" else str(name)
    if name in present or f"{name}:0" in present:
        return torch.device(name)
    raise InputError(f"device {name!r} is not there; choose from auto, {', '.join(present)}")


@contextmanager
def torch_defaults(threads: int | None = None) -> Iterator[None]:
    """Use gradients, float32 and the CPU, whatever the caller has set, and so many CPU threads.

    One thread is faster for small networks, and gives the same results for any number of cores.
    """
    before = torch.get_num_threads(), torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        torch.set_num_threads(threads or before[0])
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.set_default_dtype(before[1])


def stream(use: str, seed: int = 0) -> torch.Generator:
    """Random numbers for one use: no other use, and no other seed, draws the same ones."""
    digest = hashlib.sha256(f"{use} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def one_hot_encode(integers: Tensor, depth: int) -> Tensor:
    """Integers (n,) in 0..depth-1 as one-hot rows (n, depth), float32; ValueError for others."""
    inside = not integers.is_floating_point() and ((integers >= 0) & (integers < depth)).all()
    if not inside or integers.ndim != 1:
        raise InputError(f"a one-hot code needs a tensor of integers (n,) in 0..{depth - 1}")
    return nn.functional.one_hot(integers.long(), depth).float()


def one_hot_decode(rows: Tensor) -> Tensor:
    """The integer (n,) that each row (n, depth) stands for: the place of its largest entry."""
    return rows.argmax(dim=1)


# --- Data --------------------------------------------------------------------------------------

LARGEST = 1e37  # number in the data: differences and sums of larger ones may leave float32


def as_rows(data: object) -> Tensor:
    """Data (n, features), a tensor or anything that numpy reads as numbers, as a CPU tensor.

    It is float64 for integers and whatever else float32 would change, or float32. ValueError if
    data are no numbers, of another shape, empty, not finite or too large.
    """
    try:
        tensor = data if isinstance(data, Tensor) else torch.from_numpy(np.array(data))
        narrow = tensor.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.bool)
        if tensor.is_complex():
            raise TypeError
        rows = tensor.detach().cpu().to(torch.float32 if narrow else torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"data must be rows of numbers, not {type(data).__name__}") from None
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"data must have the shape (n, features), not {tuple(rows.shape)}")
    wrong = (~(rows.abs() <= LARGEST)).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        found = f"row {row}, column {column} holds {rows[row, column].item():g}"
        raise InputError(f"data must be finite numbers up to {LARGEST:g}; {found}")
    return rows


def hold_out(rows: Tensor, generator: torch.Generator, one_unit: bool = False) -> Tensor:
    """Which rows (n,) of some (n, features) are to measure on, not to learn from.

    One of each group of neighbours is: a sixteenth, at least 32, at most 2,048. To make groups, the
    rows are halved again and again along random directions (Dasgupta and Freund 2008).
    """
    n = len(rows)
    some = torch.arange(n) if n <= 2**15 else torch.randperm(n, generator=generator)[: 2**15]
    points = Standardize(rows[some], one_unit)(rows[some])

    def split(group: Tensor, count: int) -> list[Tensor]:
        if count == 1:
            return [group]
        direction = torch.randn(points.shape[1], generator=generator)
        group = group[(points[group] @ direction).argsort(stable=True)]
        cut, half = len(group) * (count // 2) // count, count // 2
        return split(group[:cut], half) + split(group[cut:], count - half)

    groups = split(torch.arange(len(some)), min(max(n // 16, 32), max(n // 2, 1), 2048))
    chosen = [group[torch.randint(len(group), (), generator=generator)] for group in groups]
    held_out = torch.zeros(n, dtype=torch.bool)
    held_out[some[torch.stack(chosen)]] = True
    return held_out


class Standardize(nn.Module):
    """Rows (n, features) to mean 0, deviation 1: by column or, `one_unit` for pixels, overall.

    Columns that go further than `within` deviations, but for one row in 200, are shrunk until they
    do not: at that distance, the steps of a generator that learns would throw far clusters about.
    """

    mean: Tensor  # (features,)
    deviation: Tensor

    def __init__(self, rows: Tensor, one_unit: bool = False, within: float = math.inf) -> None:
        super().__init__()
        # double, as float32 loses the spread of columns far from zero
        deviation, mean = torch.std_mean(rows.double(), dim=0, correction=0)
        if within < math.inf:
            far = (rows - mean).abs().kthvalue(math.ceil(0.995 * len(rows)), dim=0).values
            deviation = torch.maximum(deviation, far / within)
        varies = (rows != rows[0]).any(dim=0)
        deviation, mean = deviation.where(varies, 0), mean.where(varies, rows[0])  # exactly
        if one_unit:
            spread, mean = mean.var(correction=0).expand_as(mean), mean.mean().expand_as(mean)
            deviation = (deviation.square().mean() + spread).sqrt()
        self.register_buffer("mean", mean.to(rows.dtype))
        self.register_buffer("deviation", deviation.to(rows.dtype))

    def forward(self, rows: Tensor) -> Tensor:
        ones = torch.ones_like(self.deviation)
        return ((rows - self.mean) / self.deviation.where(self.deviation > 0, ones)).float()


class Restore(Standardize):
    """The way back: float32 rows to the data's units and type; a constant column is exact."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.deviation + self.mean


# --- Parts of a loop ---------------------------------------------------------------------------


class Batches:
    """Endless batches (size, features) of rows (n, features), each row as often as any other."""

    def __init__(self, rows: Tensor, size: int) -> None:
        self.rows, self.size = rows, size
        self.shuffled = torch.empty(0, dtype=torch.int64, device=rows.device)  # indices to come

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            while len(self.shuffled) < self.size:
                more = torch.randperm(len(self.rows), device=self.rows.device)
                self.shuffled = torch.cat([self.shuffled, more])
            chosen, self.shuffled = self.shuffled[: self.size], self.shuffled[self.size :]
            yield self.rows[chosen]


def even_noise(size: int, columns: int, device: str | torch.device) -> Iterator[Tensor]:
    """Endless batches (size, columns) of normal noise without gaps: Sobol points (Owen 1998).

    The generator would be blamed for the gaps that random noise leaves.
    """
    while True:
        sobol = torch.quasirandom.SobolEngine(columns, scramble=True)
        for _ in range(64):
            even = sobol.draw(size).clamp(1e-6, 1 - 1e-6)  # its ends would be infinite
            yield torch.special.ndtri(even).to(device)


class FourierFeatures(nn.Module):
    """Appends sines and cosines, so that a network learns fine detail: (n, m) -> (n, 7 * m).

    The frequencies are fixed: the positional encoding of NeRF (Mildenhall et al. 2020).
    """

    frequencies: Tensor

    def __init__(self, frequencies: Sequence[float] = (1, 2, 4)) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.tensor(frequencies, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        phases = (inputs.unsqueeze(2) * self.frequencies).flatten(1)
        return torch.cat([inputs, phases.sin(), phases.cos()], dim=1)


def gradient_penalty(scores: Tensor, rows: Tensor) -> Tensor:
    """Mean squared gradient norm of the scores (n, 1) at the rows (n, features).

    Added to the mean loss of the same rows, real and generated, it is R1 + R2 without the factor
    1/2 (Mescheder et al. 2018).
    """
    (slopes,) = torch.autograd.grad(scores.sum(), rows, create_graph=True)
    return slopes.square().sum(dim=1).mean()


@torch.no_grad()
def move_towards(average: nn.Module, model: nn.Module, share: float) -> None:
    """Moving average of weights and running statistics: a `share` of the way to `model`."""
    old, new = (
        [*network.parameters(), *(part for part in network.buffers() if part.is_floating_point())]
        for network in (average, model)
    )
    get_ema_multi_avg_fn(1 - share)(old, new, 0)


# --- Distance ----------------------------------------------------------------------------------


class SlicedWasserstein:
    """Distance of samples to `real` ones: sliced 2-Wasserstein (Bonneel et al. 2015).

    Both are standardised by the `scale` rows (`real`), projected on 64 directions, and sorted; it
    is the root of the mean squared difference. It rises for samples off the real ones as well as
    for real ones left out.
    """

    def __init__(self, real: Tensor, scale: Tensor | None = None, one_unit: bool = False) -> None:
        """`real` and `scale` have shape (n, features), `one_unit` as in Standardize."""
        self.standardize = Standardize(real if scale is None else scale, one_unit)
        normal = torch.randn(64, real.shape[1], generator=stream("directions"))
        self.directions = normal / normal.norm(dim=1, keepdim=True)
        self.real = self._sorted_projections(real)

    def _sorted_projections(self, rows: Tensor) -> Tensor:  # (n, features) -> (64, n)
        projections = self.directions @ self.standardize(rows.detach().cpu()).T
        return torch.from_numpy(np.sort(projections.numpy(), axis=1))  # faster than torch's

    def __call__(self, samples: Tensor) -> float:
        """The distance of `samples` (m, features), any m; infinite if one of them is not finite."""
        if not samples.float().isfinite().all():
            return math.inf
        both = self._sorted_projections(samples), self.real
        fewer, more = sorted(both, key=lambda projections: projections.shape[1])
        quantiles = (torch.arange(more.shape[1]) + 0.5) / more.shape[1]
        same_quantile = fewer[:, (quantiles * fewer.shape[1]).long()]
        return (same_quantile - more).square().mean().sqrt().item()


def fresh_distance(rows: Tensor) -> float:
    """The distance that as many fresh rows have to these (n, features), in about 19 of 20 cases.

    It is 0.8 of the 95th percentile of 40 distances between random halves: with twice as many rows,
    distances fall to 0.71 on curves, and to 0.84 where the shares of clusters decide.
    """
    random, half = stream("halves"), len(rows) // 2
    mixed = [rows[torch.randperm(len(rows), generator=random)] for _ in range(40 if half else 0)]
    halves = ((each[:half], each[half : 2 * half]) for each in mixed)
    distances = [SlicedWasserstein(one, rows)(other) for one, other in halves]
    return 0.8 * float(np.quantile(distances or [0.0], 0.95))


def precision_and_coverage(real: Tensor, generated: Tensor) -> tuple[float, float]:
    """Share of generated rows (n, features) near real ones, and of real ones near generated ones.

    Near is within the distance of the real row to its fifth nearest other one, or 0.1 standard
    deviations: precision (Kynkaanniemi et al. 2019) and coverage (Naeem et al. 2020). At most
    4,096 real rows and 8,192 generated ones are compared.
    """
    standardize, random = Standardize(real), stream("rows compared")

    def some(rows: Tensor, most: int) -> Tensor:
        return standardize(rows[torch.randperm(len(rows), generator=random)[:most]])

    real, generated = some(real, 4096), some(generated, 8192)
    fifth = min(1 + 5, len(real))  # past the row itself
    reach = torch.cdist(real, real).kthvalue(fifth, dim=1).values.clamp(min=0.1)
    near = torch.cdist(generated, real) <= reach
    return near.any(dim=1).float().mean().item(), near.any(dim=0).float().mean().item()


# --- Training ----------------------------------------------------------------------------------

BOUND = 1e6  # of losses and distances: trainings recover from thousands, not from millions
NEAR, NEAR_FOR_IMAGES = 1.0, 1.6  # the ratio up to which a generator is good
FEW = 50  # rows, below which it is luck what a check says
PROGRESS = 0.1  # of the distance that real samples have: a distance that falls by less may be luck
SIGNALS: list[int] = []  # received in `stop_gently`


class Evaluation(NamedTuple):
    """What is noted of an epoch of adversarial training."""

    epoch: int
    discriminator_loss: float
    generator_loss: float
    distance: float


# Some epochs, with samples (n, features), and with what the discriminator thinks of `places`
Film = dict[int, tuple[Any, ...]]


def note_signal(number: int, _: object) -> None:
    """Let a training end after its epoch; at the second signal, at once."""
    if SIGNALS:
        raise KeyboardInterrupt
    SIGNALS.append(number)
    with suppress(RuntimeError):  # if the signal came while something else was printed there
        words = "Interrupted: stopping after this epoch, keeping what was learned"
        print(f"\n{words}; again to stop at once.", file=sys.stderr, flush=True)


@contextmanager
def stop_gently() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a training after its epoch; a second one ends it at once.

    Outside the main thread, where Python has no signals, and inside another of these, it is idle.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is note_signal:
        yield
        return
    both = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, note_signal) for number in both}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        SIGNALS.clear()


class Epochs:
    """The epochs of a training: counts from 1, keeps weights, ends when progress does.

    Kept are those of the latest epoch whose error cannot be told from the lowest. When progress
    ends, or in time for the last epoch, the learning rate falls to nothing, in `cooling` epochs.
    """

    def __init__(
        self, rows: int, seed: int, epochs: int, patience: int, size: int | None, progress: bool,
        cooling: int = 0,
    ) -> None:  # fmt: skip
        """To learn from so many rows, in batches of `size`; ValueError if that cannot be."""
        size = rows if size is None else size
        for name, count in (("epochs", epochs), ("patience", patience), ("batch_size", size)):
            if not isinstance(count, int) or count < 1:
                raise InputError(f"{name} must be an integer of at least 1, not {count!r}")
        if size > rows:
            raise InputError(f"batch_size {size} is larger than the data, {rows} rows")
        torch.manual_seed(stream("training", seed).initial_seed())
        self.epochs, self.patience, self.progress = epochs, patience, progress
        self.cooling, self.last = min(cooling, epochs // 2), epochs
        self.history: list[Any] = []  # named tuples
        self.best: dict[str, Any] = {}  # weights
        self.best_epoch, self.lowest = 0, math.inf  # of errors
        self.progressed, self.reached = 0, math.inf  # the last epoch with progress, and its error
        self.noise, self.margin = 0.0, 0.0  # how far errors that are alike differ; least progress
        self.diverged, self.signal = False, 0
        self.findings: dict[str, bool] = {}  # in words, and whether they are good
        self.remedy = "Try more --epochs, another --seed or a lower --lr."
        self.figures: dict[str, Any] = {"samples": rows, "seed": seed}

    def __iter__(self) -> Iterator[int]:
        with tqdm(total=self.epochs, unit="epoch", leave=False, disable=not self.progress) as bar:
            while len(self.history) < self.last and not self.signal:
                yield len(self.history) + 1
                figures = list(self.history[-1]._asdict().items())[1:]
                bar.set_postfix({name: f"{x:.3f}" for name, x in figures}, refresh=False)
                bar.update(len(self.history) - bar.n)
                self.signal = SIGNALS[0] if SIGNALS else 0

    @property
    def pace(self) -> float:
        """Share of the learning rate in the epoch to come: 1, or less while it falls."""
        left = min(1, (self.last - len(self.history)) / (self.cooling + 1))
        return 1 - math.sqrt(1 - left)  # low for long (Hagele et al. 2024)

    def note(self, row: NamedTuple, error: float, model: nn.Module) -> None:
        """Add an epoch to the history; keep the weights if `error` is lowest, but for the noise."""
        self.history.append(row)
        done = len(self.history)
        losses = [value for name, value in row._asdict().items() if name.endswith("loss")]
        self.diverged = not all(abs(number) < BOUND for number in (error, *losses))  # nor is NaN
        if not self.diverged and (error < self.lowest + self.noise or not self.best_epoch):
            self.best_epoch, self.lowest = done, min(error, self.lowest)
            self.best = {name: part.clone() for name, part in model.state_dict().items()}
        if error < self.reached - self.margin:
            self.progressed, self.reached = done, error
        if done - self.progressed >= self.patience:
            self.last = min(self.last, done + self.cooling)
        if self.diverged:
            self.last = done

    def finish(self, model: nn.Module) -> nn.Module:
        """`model` with its best weights, on the CPU, in eval mode; Failure if there are none."""
        if not self.best_epoch:
            raise Failure("training diverged from the start, nothing was saved; lower --lr")
        model.load_state_dict(self.best)
        return model.eval().cpu().requires_grad_(False)

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it, as Ctrl-C does."""
        return self.signal != 0

    @property
    def converged(self) -> bool:
        """Whether all that was found is good."""
        return bool(self.findings) and all(self.findings.values())

    @property
    def verdict(self) -> str:
        """How good the model is, in words, and if it is not, what to try."""
        if self.converged:
            return f"Good: {'; '.join(self.findings)}."
        return f"WARNING, not converged: {'; '.join(self.findings)}. {self.remedy}"


class Training(Epochs):
    """An adversarial training, measured by the distance to real rows that are held out."""

    history: list[Evaluation]
    generator: nn.Module  # the kept one, on the CPU, in eval mode, in the data's own units
    samples: Tensor  # (n, features)
    distance: float  # of these to real rows, at most 5,000
    ratio: float  # of this to what as many fresh real rows may have
    precision: float  # share of them that are near real ones
    coverage: float  # share of the real ones that have some of them near

    def __init__(
        self,
        data: object,
        *settings: Any,
        one_unit: bool = False,
        within: float | None = None,
        is_held_out: Tensor | None = None,
        max_off_data: float = 0.04,
        max_missed: float = 0.01,
    ) -> None:
        """On `data` (n, features), `one_unit` for pixels; other settings as in Epochs.

        Given `within`, what is learned and generated are rows standardised as by Standardize.
        Rows are held out by `is_held_out` (n,), or spread evenly. Good are a precision and a
        coverage of 1 but for `max_off_data` and `max_missed`.
        """
        self.data = as_rows(data)
        super().__init__(len(self.data), *settings)
        self.one_unit = one_unit
        self.standardize: nn.Module = nn.Identity()
        self.restore: nn.Module | None = None
        self.max_off_data, self.max_missed = max_off_data, max_missed
        if is_held_out is None:
            random = stream("held-out rows", self.figures["seed"])
            is_held_out = hold_out(self.data, random, one_unit)
        self.is_held_out = is_held_out
        self.is_real = ~self.is_held_out if len(self.data) > 1 else self.is_held_out
        if within is not None:
            self.standardize = Standardize(self.data[self.is_real], within=within)
            self.restore = Restore(self.data[self.is_real], within=within)
        rows = self.standardize(self.data).float()
        self.real, self.held_out = rows[self.is_real], rows[self.is_held_out]
        # What fresh samples would have: drawn again from the learned rows (bootstrap, Efron 1979)
        self.measure = SlicedWasserstein(self.held_out, self.real, one_unit)
        random = stream("learned rows drawn again", self.figures["seed"])
        count = min(len(rows), 2048)  # more would ask too much of a small generator
        draws = [torch.randint(len(self.real), (count,), generator=random) for _ in range(20)]
        self.real_distance = max(self.measure(self.real[draw]) for draw in draws)
        self.noise, self.margin = self.real_distance, PROGRESS * self.real_distance
        self.film: Film = {}  # of ever fewer epochs, as they come to matter less
        self.places = self.standardize(places(self.data)) if rows.shape[1] == 2 else rows[:0]

    def evaluate(
        self, model: nn.Module, latents: Tensor, d_loss: Tensor, g_loss: Tensor, *judge: nn.Module
    ) -> None:
        """Measure the generator, as it is after an epoch, on latents (n, LATENT_DIM).

        The film shows what a `judge`, the discriminator, thinks of places in the plane.
        """
        with torch.no_grad():
            samples = model(latents)
            seen = judge if samples.shape[1] == 2 else ()
            opinions = [each(self.places.to(samples)).sigmoid().cpu() for each in seen]
        distance = self.measure(samples)
        row = Evaluation(len(self.history) + 1, d_loss.item(), g_loss.item(), distance)
        self.note(row, distance, model)
        some = samples[: 64 + 2**17 // samples.shape[1]].cpu().clone()
        self.film[int(8 * math.log2(row.epoch))] = row, some, *opinions

    def judged(self, generator: nn.Module, latents: Tensor) -> Self:
        """With the best weights of the generator, measured once more, on fresh latents."""
        self.generator = self.finish(generator)
        self.samples, rows = self.generator(latents), torch.cat([self.real, self.held_out])
        if len(self.data) < FEW:
            self.findings[f"too few rows of data to tell: {len(self.data)} of {FEW}"] = False
            self.remedy = "Learn from more rows."
        rows = rows[:: math.ceil(len(rows) / 5000)]
        if not self.one_unit:  # more than the held-out rows, to see smaller faults
            self.measure, self.real_distance = SlicedWasserstein(rows), fresh_distance(rows)
        self.distance, count = self.measure(self.samples), self.measure.real.shape[1]
        self.ratio = self.distance / max(self.real_distance, 1e-3)
        words = f"distance {self.distance:.3f} to {count:,} real samples (fresh ones: "
        near = NEAR_FOR_IMAGES if self.one_unit else NEAR
        self.findings[f"{words}up to {self.real_distance:.3f})"] = self.ratio <= near
        if not self.one_unit:  # of images, pixel by pixel, these say little
            self.precision, self.coverage = precision_and_coverage(rows, self.samples)
            words = f"{self.precision:.1%} of generated samples are near real ones"
            self.findings[words] = 1 - self.precision <= self.max_off_data
            words = f"{self.coverage:.1%} of real samples are near generated ones"
            self.findings[words] = 1 - self.coverage <= self.max_missed
            both = (Standardize(rows)(each).round(decimals=3) for each in (rows, self.samples))
            due, got = (len(each.unique(dim=0)) for each in both)
            if got < 0.75 * due:
                self.findings[f"generated samples are copies of {got:,}"] = False
            shares = {"precision": self.precision, "coverage": self.coverage}
            self.figures |= shares | {"recall": self.coverage}  # the former name of coverage
        figures = {"distance": self.distance, "ratio": self.ratio}
        self.figures |= figures | {"distance_of_real_samples": self.real_distance}
        if self.restore is not None:
            self.generator = nn.Sequential(self.generator, self.restore).eval()
            self.samples = self.restore(self.samples)
            self.film = {
                key: (row, self.restore(some), *opinions)
                for key, (row, some, *opinions) in self.film.items()
            }
        return self

    def find_missing(
        self, real: Tensor, generated: Tensor, *, names: Sequence[str] | None = None
    ) -> None:
        """Which integers of real ones (n,) generated ones (m,) hold less than a fifth as often.

        They may stand for `names`.
        """
        depth = 1 + int(torch.cat([real, generated]).max())
        due = real.bincount(minlength=depth) / len(real)
        got = generated.bincount(minlength=depth) / max(len(generated), 1)
        missing = torch.nonzero((due > 0) & (got < due / 5)).flatten().tolist()
        missing = [names[i] for i in missing] if names else missing
        named = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        words = f"{len(missing)} values are (nearly) missing: {named}" if missing else ""
        self.findings[words or "no value is missing"] = not missing
        self.figures["missing_values"] = missing


# --- Pictures ----------------------------------------------------------------------------------

REAL, GENERATED = "#9a9a9a", "#0b4f8a"  # light and dark, to differ in black and white as well
OPINIONS, SIDE = ["#bcd4ea", "#ffffff", "#f6d9a8"], 48  # colours, and places along each axis


class Figure(matplotlib.figure.Figure):
    """A figure of matplotlib that a notebook shows, without pyplot."""

    def _repr_png_(self) -> bytes:
        self.savefig(file := io.BytesIO(), format="png")
        return file.getvalue()


def places(points: Tensor) -> Tensor:
    """A grid of places (SIDE**2, 2), row by row, on the part of the plane around points (n, 2)."""
    grid = []
    for numbers in reversed(plane(points)):
        low, high = float(numbers.min()), float(numbers.max())
        margin = 0.07 * (high - low)
        grid.append(torch.linspace(low - margin, high + margin, SIDE))
    return torch.cartesian_prod(*grid).flip(1)


def plot_points(
    real: Tensor, generated: Tensor, history: Sequence[Evaluation], best_epoch: int | None = None
) -> Figure:
    """Real and generated points (n, features), their histograms, and the training's history."""
    top = [["real", "generated", "x"], ["real", "generated", "y"]]
    figure, axes = plot_history(history, top, best_epoch)
    both = {"real": (real, REAL, "bar"), "generated": (generated, GENERATED, "step")}
    for name, (points, colour, bars) in both.items():
        axes[name].scatter(*plane(points), s=4, color=colour, linewidths=0)
        axes[name].set(title=f"{name}: {len(points):,} points", xlabel="x", ylabel="y")
        ends = axes[name].axis(axes["real"].axis())
        style = {"label": name, "color": colour, "histtype": bars, "linewidth": 1.5}
        for part, numbers, end in zip("xy", plane(points), (ends[:2], ends[2:]), strict=True):
            bins, weights = np.linspace(end[0], end[1], 41), np.full(len(points), 100 / len(points))
            axes[part].hist(numbers, bins.tolist(), weights=weights, **style)
            axes[part].set(xlabel=part, ylabel="share in %")
    axes["x"].legend(loc="lower center")
    return figure


def plane(points: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The first two columns of points (n, features); a single one, beside zeros."""
    x, y, *_ = nn.functional.pad(points, (0, 1)).T.numpy()
    return x, y


def plot_history(
    history: Sequence[Evaluation], top: list[list[str]], best_epoch: int | None = None
) -> tuple[Figure, Any]:
    """Losses and distances by epoch, with the epoch that was kept, below axes for the rest."""
    figure = Figure(figsize=(10, 7), dpi=120, layout="constrained")
    heights, width = [3 / len(top)] * len(top) + [1.4], len(top[0])
    mosaic: Any = [*top, ["loss"] * (width - width // 3) + ["distance"] * (width // 3)]
    axes = figure.subplot_mosaic(mosaic, height_ratios=heights)
    epochs, d_losses, g_losses, distances = zip(*history, strict=True)
    axes["loss"].plot(epochs, d_losses, color=REAL, label="discriminator")
    axes["loss"].plot(epochs, g_losses, color=GENERATED, label="generator")
    axes["loss"].legend()
    axes["distance"].plot(epochs, distances, color=GENERATED)
    if best_epoch:
        axes["distance"].axvline(best_epoch, color=REAL, linestyle=":", label="kept")
        axes["distance"].legend()
    for name in ("loss", "distance"):
        axes[name].set(xlabel="epoch", ylabel=name)
    return figure, axes


def plot_shares(axis: Axes, real: Tensor, generated: Tensor) -> None:
    """Bars of how often each integer comes among real ones (n,) and generated ones (m,)."""
    for integers, width, colour in ((real, 0.9, REAL), (generated, 0.45, GENERATED)):
        share = 100 * integers.bincount().numpy() / len(integers)
        axis.bar(np.arange(len(share)), share, width, color=colour)
    axis.set(ylabel="share in %")
    axis.margins(y=0.2)  # room for the legend
    axis.legend(["real", "generated"], loc="upper right", ncols=2)


def plot_path(generated: Tensor, path: Tensor, x: str = "x", y: str = "y") -> Figure:
    """Points (steps, features) on a walk, light to dark, over generated ones (n, features)."""
    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.scatter(*plane(generated), s=4, color=REAL, linewidths=0, label="generated")
    axes.plot(*plane(path), color=GENERATED, linewidth=0.5)
    steps = range(1, len(path) + 1)
    dots = axes.scatter(*plane(path), s=40, c=steps, cmap="Blues", edgecolors=GENERATED, zorder=3)
    figure.colorbar(dots, label="step of the walk")
    axes.set(xlabel=x, ylabel=y)
    axes.legend()
    return figure


def animate_points(real: Tensor, film: Film, x: str = "x", y: str = "y") -> bytes:
    """A GIF of generated points (n, features), epoch by epoch, over the real ones."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*plane(real[:1000]), s=4, color=REAL, linewidths=0, label="real")
    dots = axes.scatter([], [], s=4, color=GENERATED, linewidths=0, label="generated")
    axes.set(xlabel=x, ylabel=y)
    if len(next(iter(film.values()))) == 3:
        (left, bottom), (right, top) = places(real)[[0, -1]].tolist()
        colours = LinearSegmentedColormap.from_list("", OPINIONS)
        extent = left, right, bottom, top
        image = axes.imshow(np.zeros((2, 2)), colours, extent=extent, aspect="auto", origin="lower")
        doubt = torch.stack([(opinions - 0.5).abs().max() for _, _, opinions in film.values()])
        image.set_clim(0.5 - doubt.median().item(), 0.5 + doubt.median().item())
        figure.colorbar(image, label="the discriminator's probability of real")
    axes.autoscale(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, markerscale=3)

    def show(rows: Tensor, opinions: Tensor | None = None) -> None:
        dots.set_offsets(np.stack(plane(rows[:1000]), 1))
        if opinions is not None:
            image.set_data(opinions.reshape(SIDE, SIDE).numpy())

    return animate(figure, film, show)


def animate(figure: Figure, film: Film, show: Callable[..., object]) -> bytes:
    """A GIF of a figure in which `show` shows samples; it dwells on the first and last of them."""
    canvas, frames, file = FigureCanvasAgg(figure), [], io.BytesIO()
    for row, *shown in film.values():
        figure.axes[0].set_title(f"epoch {row.epoch}, distance {row.distance:.3f}")
        show(*shown)
        canvas.draw()
        figure.set_layout_engine("none")  # it takes longer than to draw, and once is enough
        frame = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        frames.append(frame.quantize(64, Image.Quantize.FASTOCTREE))
    frames = [frames[0]] * 5 + frames + [frames[-1]] * 10  # the same ones are stored once
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=200, loop=0)
    return file.getvalue()


# --- Files -------------------------------------------------------------------------------------


@contextmanager
def results(folder: Path, messages: TextIO | None = None) -> Iterator[Path]:
    """A place for results, which replace those in `folder` at the end, each whole.

    Failure if that cannot be done; another error while they are made leaves the earlier ones.
    """
    place = folder / ".partial"
    with ExitStack() as stack:
        with cannot_save(f"in {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(folder / ".lock", timeout=0))
            except Timeout:
                reason = f"another run saves to {folder}; wait, or choose another --out"
                raise Failure(reason) from None
            for earlier in place.glob("earlier */*"):  # a run was killed while it replaced these
                if not (folder / earlier.name).exists():
                    earlier.replace(folder / earlier.name)
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        yield place
        with cannot_save(f"in {folder}"):
            names = [path.name for path in place.iterdir()]
            for name in names:
                if (folder / name).is_dir():
                    (place / f"earlier {name}").mkdir()
                    (folder / name).replace(place / f"earlier {name}" / name)
                (place / name).replace(folder / name)
    print(f"Saved in {folder}: {', '.join(sorted(names))}", file=messages)


@contextmanager
def cannot_save(what: str) -> Iterator[None]:
    """Turn an error of the file system into a Failure that names what could not be saved."""
    try:
        yield
    except OSError as error:
        reason = f"cannot save {what}: {error.strerror}"
        raise Failure(f"{reason}; make room, or choose another --out") from None


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file; Failure if that cannot be done."""
    with cannot_save(path.name):
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def save_picture(path: Path, draw: Callable[..., Figure | bytes], *shown: Any) -> None:
    """Write the figure or GIF that `draw` makes; if it fails, only say so: it costs no training."""
    try:
        with warnings.catch_warnings(action="ignore"), rc_context({"text.parse_math": False}):
            picture = draw(*shown)  # in which no name is a formula, as two $ would make it
            if isinstance(picture, Figure):
                file = io.BytesIO()
                picture.savefig(file)
                picture = file.getvalue()
    except Exception as error:  # of any kind: what can be drawn depends on the data
        print(f"{path.name} could not be drawn: {error}", file=sys.stderr)
        return
    write_file(path, picture)


def save_model(folder: Path, name: str, model: nn.Module, inputs: int) -> None:
    """Write a model (n, inputs) -> (n, outputs), any n, as TorchScript and by torch.export."""
    # Of few rows, as torch.jit.trace keeps what it computes of them for as long as Python runs
    example = torch.randn(16, inputs, generator=stream("example"))
    traced, script, program = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # TorchScript has a successor
        torch.jit.save(torch.jit.trace(model, example, check_trace=False), traced)
        with zipfile.ZipFile(traced) as whole, zipfile.ZipFile(script, "w") as archive:
            for part in whole.namelist():  # but the paths of sources, other on each machine
                if not part.endswith((".debug_pkl", "serialization_id")):
                    archive.writestr(zipfile.ZipInfo(part), whole.read(part))
        rows = ({0: torch.export.Dim("rows", max=2**48)},)  # torch 2.7 refuses to go up to 2**63
        exported = torch.export.export(model, (example,), dynamic_shapes=rows, strict=False)
        for node in exported.graph.nodes:
            node.meta.pop("stack_trace", None)
        torch.export.save(exported, program)
    write_file(folder / f"{name}.pt", script.getvalue())
    write_file(folder / f"{name}.pt2", program.getvalue())


def load_model(path: Path, inputs: int, outputs: int | None = None) -> nn.Module:
    """A saved model (n, inputs) -> (n, outputs); Failure if absent, damaged or of another shape."""
    try:
        content = path.read_bytes()
        if zipfile.ZipFile(io.BytesIO(content)).testzip():  # torch does not look at checksums
            raise ValueError
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            model = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
            shape = tuple(model(torch.zeros(3, inputs)).shape)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}; train first") from None
    except Exception:  # torch raises errors of many kinds over a file that it cannot read or run
        raise Failure(f"{path} is damaged, or not a model from here; train again") from None
    if outputs and shape != (3, outputs):
        raise Failure(f"{path} is a model of another shape; train again")
    return model


def save_history(folder: Path, training: Epochs) -> None:
    """Write history.csv, a row an epoch, and metrics.json, what the training came to."""
    rows = [training.history[0]._fields, *training.history]
    lines = [",".join(map(str, row)) + "\n" for row in rows]
    write_file(folder / "history.csv", "".join(lines))
    metrics = {"verdict": training.verdict, "converged": training.converged, **training.figures}
    metrics |= {"epochs": len(training.history), "best_epoch": training.best_epoch}
    metrics["kept_epoch"] = training.best_epoch  # what it is: others may measure a little better
    metrics |= {"interrupted": training.interrupted, "diverged": training.diverged}
    metrics |= {"torch": torch.__version__, "python": sys.version.split()[0]}
    write_file(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def read_numbers(path: Path, columns: int, depth: int | None = None) -> Tensor:
    """Rows (n, columns) of a CSV file; with `depth`, integers below it. Failure names the line."""
    wanted = f"{columns} finite number{'s' * (columns > 1)}"
    wanted = f"an integer in 0..{depth - 1}" if depth else wanted
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
            row = [] if number == 1 else [math.nan]  # the first line may be a header
        valid = all(x in range(depth) if depth else abs(x) <= LARGEST for x in row)
        if row and not (valid and len(row) == columns):
            found = ",".join(line)[:40]
            raise Failure(f"{path}, line {number}: expected {wanted}, found {found!r}")
        rows += [row] if row else []
    if not rows:
        raise Failure(f"{path} holds no numbers; give {wanted} a line")
    return torch.tensor(rows, dtype=torch.float64)


# --- Command line ------------------------------------------------------------------------------

CHUNK = 4096  # rows generated at a time: what a layer makes of them fits a core's cache


class Parser(argparse.ArgumentParser):
    """The options that every script has; says in one line what is wrong."""

    def __init__(self, file: str, about: str | None, train: Callable, gan: bool = True) -> None:
        """Of a script's file, about which --help says this; the defaults are those of `train`."""
        script, style = Path(file).stem, argparse.RawDescriptionHelpFormatter
        super().__init__(f"{script}.py", None, about, allow_abbrev=False, formatter_class=style)
        add, natural = self.add_argument, functools.partial(number, least=0)
        rate = functools.partial(number, kind=float, least=sys.float_info.min)
        add("--seed", metavar="N", type=natural, help="everything random follows from it (0)")
        add("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps (auto)")
        add("--epochs", metavar="N", type=number, help="epochs at most (%(default)s)")
        add("--patience", metavar="N", type=number, help="end after N of no progress (%(default)s)")
        add("--batch-size", metavar="N", type=number, help="real samples a step (the script's own)")
        add("--lr", metavar="X", type=rate, help="learning rate (%(default)s)")
        add("--out", metavar="DIR", type=Path, help="where results go (%(default)s)")
        add("--show", action="store_true", help="open the picture in a window")
        add("--quiet", action="store_true", help="no progress bar")
        if gan:
            add("--generate", metavar="N", type=number, help="no training: write N samples")
            add("--interpolate", metavar="N", type=number, help="no training: walk in N steps")
            add("--animate", action="store_true", help="also save the training as a GIF")
        where = {"device": "auto", "out": Path("outputs", script.removesuffix("_gan"))}
        self.set_defaults(**inspect.unwrap(train).__kwdefaults__ | where)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def number(text: str, kind: Callable[[str], float] = int, least: float = 1) -> float:
    """The type of an option: an integer of at least 1 or `least`, or a positive float."""
    with suppress(ValueError):
        if least <= kind(text) < (2**63 if kind is int else math.inf):
            return kind(text)
    wanted = f"an integer of at least {least}" if kind is int else "a positive number"
    raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")


def training_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments for `train` that the options stand for."""
    names = ("seed", "epochs", "patience", "batch_size", "lr")
    more = {"device": choose_device(options.device), "progress": not options.quiet}
    return {name: getattr(options, name) for name in names} | more


def generate(model: nn.Module, latent_dim: int, options: argparse.Namespace) -> Iterator[Tensor]:
    """The samples (rows, features) that --generate asks for, in blocks."""
    random = stream("samples", options.seed)
    for start in range(0, options.generate, CHUNK):
        # A whole block, also at the end: randn draws the numbers of a part in another order
        latents = torch.randn(CHUNK, latent_dim, generator=random)
        with torch.no_grad():
            yield model(latents[: options.generate - start])


def write_csv(blocks: Iterator[Tensor], header: str, style: str | None = None) -> None:
    """Print a header, and blocks of rows (n, columns), their numbers exactly or in a style."""
    print(header)
    for rows in blocks:
        exact = "%r" if rows.dtype == torch.float64 else "%.9g"
        line = ",".join([style or exact] * rows.shape[1]) + "\n"
        sys.stdout.write(line * len(rows) % tuple(rows.flatten().tolist()))


def walk(
    steps: int, latent_dim: int, stops: int = 4, generator: torch.Generator | None = None
) -> Tensor:
    """Latents (steps, latent_dim) on arcs between random stops, each of them standard normal.

    The arcs are quarter turns, whatever the angle between the stops.
    """
    stop = torch.randn(stops, latent_dim, generator=generator)
    way = torch.linspace(0, stops - 1, steps)
    last = way.floor().long().clamp(max=stops - 2)
    angle = (math.pi / 2 * (way - last)).unsqueeze(1)
    return angle.cos() * stop[last] + angle.sin() * stop[last + 1]


def conclude(training: Epochs, options: argparse.Namespace) -> int:
    """Say how a training went, show its picture if asked to, and give the exit status."""
    ending = "interrupted" if training.interrupted else "ended"
    ending += " as it diverged (lower --lr)" if training.diverged else ""
    samples, epochs, kept = training.figures["samples"], len(training.history), training.best_epoch
    print(f"Learned from {samples:,} samples, {ending} after epoch {epochs}, kept epoch {kept}.")
    print(training.verdict)
    if options.show:
        import matplotlib.pyplot as plt  # which looks for a screen

        plt.figure(figsize=(10, 7), layout="constrained")
        plt.imshow(plt.imread(options.out / "samples.png"))
        plt.axis("off")
        plt.show()  # until the window is closed
        plt.close()
    return 128 + training.signal if training.interrupted else 0


class Output:
    """Standard output, whose errors are told from those of files, and which shows any name."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks must not be lost
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write; NotPrinted if that cannot be done."""
        try:
            return self.stream.write(text)
        except OSError as error:
            raise NotPrinted from error

    def flush(self) -> None:
        """Write all that is left; NotPrinted if that cannot be done."""
        try:
            self.stream.flush()
        except OSError as error:
            raise NotPrinted from error

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


def reporting(main: Callable[..., int]) -> Callable[..., int]:
    """Let `main` say what went wrong in one line on standard error, and give its exit status."""

    @functools.wraps(main)
    def wrapper(argv: Sequence[str] | None = None) -> int:
        script = Path(inspect.getfile(main)).name
        if argv is None and "ipykernel" in sys.modules and Path(sys.argv[0]).name != script:
            argv = []  # in a notebook, as the command line is Jupyter's own
        output = Output(sys.stdout) if sys.stdout else None  # None if it is closed
        try:
            with redirect_stdout(output):
                reason, status = "", main(argv)
                print(end="", flush=True)
        except NotPrinted as failed:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, sys.stdout.fileno())  # or Python complains
            reason, status = f"cannot print: {getattr(failed.__cause__, 'strerror', None)}", 1
            if isinstance(failed.__cause__, BrokenPipeError):  # nobody reads on, as in `| head`
                reason, status = "", 0
        except (Failure, InputError) as error:
            reason, status = str(error), 2 if isinstance(error, InputError) else 1
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            reason, status = "not enough memory; lower --batch-size, or learn from less data", 1
        except KeyboardInterrupt as interrupt:
            reason = str(interrupt) or "interrupted, nothing new was saved"
            status = 130
        if reason:
            print(f"{script}: {reason}", file=sys.stderr)
        return status

    return wrapper
