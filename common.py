"""What the scripts share: copy this file along with the script that you copy.

Sections: device and one-hot codec, data, building blocks, distance, training, plots, files,
command line.
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
    """The operation failed; the message says why and what to do, in one line."""


class NotPrinted(Exception):
    """Standard output is full or closed."""


class InputError(ValueError):
    """An option or the data are invalid; the message says why, in one line."""


# --- Device and codec --------------------------------------------------------------------------


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device `name`; "auto" picks an accelerator if there is one. ValueError if unavailable."""
    count = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    present = ["cpu", *(f"{torch.accelerator.current_accelerator()}:{i}" for i in range(count))]
    name = present[-1].split(":")[0] if name == "auto" else str(name)
    if name in present or f"{name}:0" in present:
        return torch.device(name)
    raise InputError(f"device {name!r} is not available; choose from auto, {', '.join(present)}")


@contextmanager
def torch_defaults(threads: int | None = None) -> Iterator[None]:
    """Use gradients, float32 and the CPU, whatever the caller has set, and so many CPU threads.

    One thread is faster for small networks, and gives the same results for any number of cores.
    """
    before = torch.get_num_threads(), torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.empty(0).device.type != "cpu":
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
    """Integers (n,) from 0 to depth - 1 as one-hot rows (n, depth), float32; or ValueError."""
    inside = not integers.is_floating_point() and ((integers >= 0) & (integers < depth)).all()
    if not inside or integers.ndim != 1:
        raise InputError(f"expected integers of shape (n,) from 0 to {depth - 1}")
    return nn.functional.one_hot(integers.long(), depth).float()


def one_hot_decode(rows: Tensor) -> Tensor:
    """The index (n,) of the largest entry of each row (n, depth)."""
    return rows.argmax(dim=1)


# --- Data --------------------------------------------------------------------------------------

LARGEST = 1e37  # allowed absolute value: sums of larger ones may overflow float32


def as_rows(data: object) -> Tensor:
    """Data (n, features), a tensor or anything that numpy reads as numbers, as a CPU tensor.

    It is float64 for integers and whatever else float32 would change, or float32. ValueError if
    data are no numbers, of another shape, empty, not finite or too large.
    """
    try:
        if not isinstance(data, Tensor):
            array = np.array(data)
            if array.dtype.kind not in "biufO":
                raise TypeError
            narrow = array.dtype in (np.float32, np.float16)
            data = torch.from_numpy(array.astype(np.float32 if narrow else np.float64))
        narrow = data.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.bool)
        if data.is_complex():
            raise TypeError
        rows = data.detach().cpu().to(torch.float32 if narrow else torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError("data must be rows of numbers, all of the same length") from None
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"data must have the shape (n, features), not {tuple(rows.shape)}")
    wrong = (~(rows.abs() <= LARGEST)).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        found = f"row {row}, column {column} holds {rows[row, column].item():g}"
        raise InputError(f"data must be finite numbers up to {LARGEST:g}; {found}")
    return rows


def hold_out(rows: Tensor, generator: torch.Generator, one_unit: bool = False) -> Tensor:
    """Mask (n,) of the rows held out for evaluation, of some (n, features).

    Random projections split the rows into groups of neighbours (Dasgupta and Freund 2008), and one
    row of each is held out: a sixteenth, at least 32, at most 2,048.
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
    """Shifts and scales columns (n, features) to mean 0 and standard deviation 1.

    `one_unit`, for pixels, treats all columns alike. If more than 0.5 % of a column lies beyond
    `max_std`, it is scaled down further: far clusters train unstably.
    """

    mean: Tensor  # (features,)
    deviation: Tensor

    def __init__(self, rows: Tensor, one_unit: bool = False, max_std: float = math.inf) -> None:
        super().__init__()
        # float64: float32 loses the variance of columns with a large mean
        deviation, mean = torch.std_mean(rows.double(), dim=0, correction=0)
        if max_std < math.inf:
            far = (rows - mean).abs().kthvalue(math.ceil(0.995 * len(rows)), dim=0).values
            deviation = torch.maximum(deviation, far / max_std)
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


class Unstandardize(Standardize):
    """Inverse of Standardize, in the data's type; constant columns are restored exactly."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.deviation + self.mean


# --- Building blocks ---------------------------------------------------------------------------


class Batches:
    """Endless shuffled batches (size, features) of rows (n, features)."""

    def __init__(self, rows: Tensor, size: int) -> None:
        self.rows, self.size = rows, size
        self.shuffled = torch.empty(0, dtype=torch.int64, device=rows.device)  # not yet used

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            while len(self.shuffled) < self.size:
                more = torch.randperm(len(self.rows), device=self.rows.device)
                self.shuffled = torch.cat([self.shuffled, more])
            chosen, self.shuffled = self.shuffled[: self.size], self.shuffled[self.size :]
            yield self.rows[chosen]


def sobol_noise(size: int, columns: int, device: str | torch.device) -> Iterator[Tensor]:
    """Endless batches (size, columns) of scrambled Sobol points as normal noise (Owen 1998).

    They are evenly spread, so that a gap in a batch of samples is the generator's fault.
    """
    while True:
        sobol = torch.quasirandom.SobolEngine(columns, scramble=True)
        for _ in range(64):
            even = sobol.draw(size).clamp(1e-6, 1 - 1e-6)  # 0 and 1 would become infinite
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
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Updates the moving average (EMA) of weights and of batch-norm statistics."""
    old, new = (
        [*network.parameters(), *(part for part in network.buffers() if part.is_floating_point())]
        for network in (ema, model)
    )
    get_ema_multi_avg_fn(decay)(old, new, 0)


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

DIVERGED = 1e6  # larger losses and distances count as divergence
MAX_RATIO, MAX_RATIO_IMAGES = 1.0, 1.6  # largest good ratio
MIN_ROWS = 50  # of data, below which chance decides a check
MIN_PROGRESS = 0.1  # smallest gain that counts, as a share of the distance of real samples


class EarlyStopping:
    """Keeps the best weights, lowers the learning rate, and says when to stop.

    After `patience` epochs without progress, or in time for the last of `epochs`, the learning rate
    falls to zero within `cooldown` epochs. Errors within `tolerance` of the lowest are equal: the
    latest is kept. A gain below `min_progress` is no progress.
    """

    def __init__(
        self, epochs: int, patience: int, cooldown: int = 0,
        tolerance: float = 0.0, min_progress: float = 0.0,
    ) -> None:  # fmt: skip
        for name, count in (("epochs", epochs), ("patience", patience)):
            if not isinstance(count, int | np.integer) or count < 1:
                raise InputError(f"{name} must be an integer of at least 1, not {count!r}")
        self.patience, self.cooldown = patience, min(cooldown, epochs // 2)
        self.tolerance, self.min_progress = tolerance, min_progress
        self.epoch, self.last_epoch = 0, epochs
        self.kept_epoch, self.lowest = 0, math.inf
        self.progress_epoch, self.progress_error = 0, math.inf
        self.weights: dict[str, Tensor] = {}
        self.diverged = False

    def update(self, error: float, model: nn.Module) -> bool:
        """Note the error of an epoch, and keep the model's weights if it is low; True to stop."""
        self.epoch += 1
        self.diverged = not abs(error) < DIVERGED  # also true for NaN
        if not self.diverged and (error < self.lowest + self.tolerance or not self.kept_epoch):
            self.weights = {name: part.clone() for name, part in model.state_dict().items()}
            self.kept_epoch, self.lowest = self.epoch, min(error, self.lowest)
        if error < self.progress_error - self.min_progress:
            self.progress_epoch, self.progress_error = self.epoch, error
        if self.epoch - self.progress_epoch >= self.patience:
            self.last_epoch = min(self.last_epoch, self.epoch + self.cooldown)
        if self.diverged:
            self.last_epoch = self.epoch
        return self.epoch >= self.last_epoch

    @property
    def lr_factor(self) -> float:
        """Factor on the learning rate of the next epoch: 1, then 1 - sqrt (Hagele et al. 2024)."""
        left = min(1, (self.last_epoch - self.epoch) / (self.cooldown + 1))
        return 1 - math.sqrt(1 - left)

    def load_best(self, model: nn.Module) -> nn.Module:
        """`model` with the kept weights, on the CPU, in eval mode; Failure if there are none."""
        if not self.kept_epoch:
            raise Failure("training diverged from the start, nothing was saved; lower --lr")
        model.load_state_dict(self.weights)
        return model.eval().cpu().requires_grad_(False)


class Check(NamedTuple):
    """A sentence of the verdict, and whether what it says is good."""

    passed: bool
    sentence: str


class Outcome:
    """What a training came to: its history, what was checked, and the verdict."""

    def __init__(
        self, rows: int, *, seed: int, epochs: int, patience: int, batch_size: int | None,
        progress: bool, cooldown: int = 0, min_rows: int = MIN_ROWS,
    ) -> None:  # fmt: skip
        """ValueError if a setting does not fit `rows` rows of data; seeds torch.

        Fewer than `min_rows` rows are never called good.
        """
        size = rows if batch_size is None else batch_size
        if not isinstance(size, int | np.integer) or size < 1:
            raise InputError(f"batch_size must be an integer of at least 1, not {size!r}")
        if size > rows:
            raise InputError(f"batch_size {size} is larger than the data, {rows} rows")
        self.stopping, self.stopped = EarlyStopping(epochs, patience, cooldown), False
        self.progress = progress
        self.history: list[Any] = []  # a named tuple for each epoch
        self.checks: list[Check] = []
        self.metrics: dict[str, Any] = {"samples": rows, "seed": seed}
        self.advice = "Try more --epochs, another --seed or a lower --lr."
        if rows < min_rows:
            self.check(False, f"too few rows of data to tell: {rows} of {min_rows}")
            self.advice = "Train on more rows."
        torch.manual_seed(stream("training", seed).initial_seed())

    def epochs(self) -> Iterator[int]:
        """Counts epochs from 1, with a progress bar, until one that was noted is the last."""
        total, hidden = self.stopping.last_epoch, not self.progress
        with tqdm(total=total, unit="epoch", leave=False, disable=hidden) as bar:
            while not self.stopped:
                epoch = len(self.history) + 1
                yield epoch
                if len(self.history) < epoch:
                    raise RuntimeError("each epoch must end with a call of training.evaluate")
                figures = list(self.history[-1]._asdict().items())[1:]
                bar.set_postfix({name: f"{x:.3f}" for name, x in figures}, refresh=False)
                bar.update(epoch - bar.n)

    def note(self, row: NamedTuple, error: float, model: nn.Module) -> None:
        """Add an epoch to the history; keep the model's weights if its error is low."""
        self.history.append(row)
        losses = [value for name, value in row._asdict().items() if name.endswith("loss")]
        usual = all(abs(number) < DIVERGED for number in (error, *losses))
        self.stopped = self.stopping.update(error if usual else math.nan, model)

    def load_best(self, model: nn.Module) -> nn.Module:
        """`model` with its best weights; tells who has interrupted the training."""
        if self.interrupted:
            if not self.history:
                raise KeyboardInterrupt("interrupted before an epoch ended, nothing was saved")
            words = f"Interrupted after epoch {len(self.history)}, keeping what was learned"
            print(f"{words}; again to stop at once.", file=sys.stderr, flush=True)
        return self.stopping.load_best(model)

    def check(self, passed: bool, sentence: str) -> None:
        """Add a sentence to the verdict."""
        self.checks.append(Check(bool(passed), sentence))

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights are kept."""
        return self.stopping.kept_epoch

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the training, or a signal."""
        return not self.stopped

    @property
    def converged(self) -> bool:
        """Whether something was checked, and every check passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def verdict(self) -> str:
        """The verdict in one line, with advice if a check failed."""
        sentences = "; ".join(check.sentence for check in self.checks)
        if self.converged:
            return f"Good: {sentences}."
        return f"WARNING, not converged: {sentences or 'nothing was checked'}. {self.advice}"


class Evaluation(NamedTuple):
    """One row of a GAN's history."""

    epoch: int
    discriminator_loss: float
    generator_loss: float
    distance: float


# At some epochs: the evaluation, samples (n, features), and the discriminator's output on a grid
Snapshots = dict[int, tuple[Any, ...]]


class Training(Outcome):
    """Measures a GAN against held-out rows while it trains; `train` returns it."""

    history: list[Evaluation]
    generator: nn.Module  # the kept one, on the CPU, in eval mode, in the data's own units
    samples: Tensor  # (n, features)
    distance: float  # of these to real rows, at most 5,000
    ratio: float  # of this to what as many fresh real rows may have
    precision: float  # share of them that are near real ones
    coverage: float  # share of the real ones that have some of them near

    def __init__(
        self, data: object, *, seed: int, epochs: int, patience: int, batch_size: int | None,
        progress: bool, cooldown: int = 0, one_unit: bool = False, max_std: float | None = None,
        is_held_out: Tensor | None = None, max_off_data: float = 0.04, max_missed: float = 0.01,
        min_rows: int = MIN_ROWS,
    ) -> None:  # fmt: skip
        """On `data` (n, features), `one_unit` for pixels.

        Given `max_std`, training rows and generated ones are standardised, as by Standardize. Rows
        are held out by `is_held_out` (n,), or spread evenly. The verdict allows a precision of
        1 - `max_off_data` and a coverage of 1 - `max_missed`, from `min_rows` rows on.
        """
        self.data = as_rows(data)
        super().__init__(
            len(self.data), seed=seed, epochs=epochs, patience=patience, batch_size=batch_size,
            progress=progress, cooldown=cooldown, min_rows=min_rows,
        )  # fmt: skip
        self.one_unit, self.max_off_data, self.max_missed = one_unit, max_off_data, max_missed
        if is_held_out is None:
            is_held_out = hold_out(self.data, stream("held-out rows", seed), one_unit)
        self.is_held_out = is_held_out
        self.is_train = ~is_held_out if len(self.data) > 1 else is_held_out
        self.standardize: nn.Module = nn.Identity()
        self.unstandardize: nn.Module | None = None
        if max_std is not None:
            self.standardize = Standardize(self.data[self.is_train], max_std=max_std)
            self.unstandardize = Unstandardize(self.data[self.is_train], max_std=max_std)
        rows = self.standardize(self.data).float()
        self.varies = (rows != rows[0]).any(dim=0) | (max_std is None)  # others are restored
        self.train_rows, self.held_out = rows[self.is_train], rows[is_held_out]
        # The distance that real samples may have: of training rows, resampled (Efron 1979)
        self.measure = SlicedWasserstein(self.held_out, self.train_rows, one_unit)
        random, n = stream("learned rows drawn again", seed), len(self.train_rows)
        draws = [torch.randint(n, (min(len(rows), 2048),), generator=random) for _ in range(20)]
        self.real_distance = max(self.measure(self.train_rows[draw]) for draw in draws)
        self.stopping.tolerance = self.real_distance
        self.stopping.min_progress = MIN_PROGRESS * self.real_distance
        self.snapshots: Snapshots = {}  # at logarithmically spaced epochs
        self.grid = self.standardize(grid(self.data)) if rows.shape[1] == 2 else rows[:0]

    def evaluate(
        self, generator: nn.Module, noise: Tensor, d_loss: Tensor, g_loss: Tensor,
        discriminator: nn.Module | None = None,
    ) -> None:  # fmt: skip
        """Measure the generator after an epoch, on noise (n, LATENT_DIM).

        With a discriminator, the animation shows its output behind points in the plane.
        """
        seen = [discriminator] if discriminator and len(self.grid) else []
        with torch.no_grad():
            samples = generator(noise)
            outputs = [network(self.grid.to(samples)).sigmoid().cpu() for network in seen]
        distance = self.measure(samples.cpu() * self.varies)
        row = Evaluation(len(self.history) + 1, d_loss.item(), g_loss.item(), distance)
        some = samples[: 64 + 2**17 // samples.shape[1]].cpu().clone()
        self.snapshots[int(8 * math.log2(row.epoch))] = row, some, *outputs
        self.note(row, distance, generator)

    def finish(self, generator: nn.Module, noise: Tensor) -> Self:
        """Load the best weights, measure them on new noise (n, LATENT_DIM), and check them."""
        self.generator = self.load_best(generator)
        self.samples = self.generator(noise) * self.varies
        rows = torch.cat([self.train_rows, self.held_out])
        rows = rows[:: math.ceil(len(rows) / 5000)]
        if not self.one_unit:  # all rows: more of them show smaller faults
            self.measure, self.real_distance = SlicedWasserstein(rows), fresh_distance(rows)
        self.distance, count = self.measure(self.samples), self.measure.real.shape[1]
        self.ratio = self.distance / max(self.real_distance, 1e-3)
        words = f"distance {self.distance:.3f} to {count:,} real samples (fresh ones: "
        limit = MAX_RATIO_IMAGES if self.one_unit else MAX_RATIO
        self.check(self.ratio <= limit, f"{words}up to {self.real_distance:.3f})")
        if not self.one_unit:  # not meaningful in pixel space
            self.precision, self.coverage = precision_and_coverage(rows, self.samples)
            words = f"{self.precision:.1%} of generated samples are near real ones"
            self.check(1 - self.precision <= self.max_off_data, words)
            words = f"{self.coverage:.1%} of real samples are near generated ones"
            self.check(1 - self.coverage <= self.max_missed, words)
            both = (Standardize(rows)(each).round(decimals=3) for each in (rows, self.samples))
            distinct_rows, distinct = (len(each.unique(dim=0)) for each in both)
            if distinct < 0.75 * distinct_rows:
                self.check(False, f"only {distinct:,} distinct samples are generated")
            shares = {"precision": self.precision, "coverage": self.coverage}
            self.metrics |= shares | {"recall": self.coverage}  # the former name of coverage
        distances = {"distance": self.distance, "ratio": self.ratio}
        self.metrics |= distances | {"distance_of_real_samples": self.real_distance}
        if self.unstandardize is not None:
            self.generator = nn.Sequential(self.generator, self.unstandardize).eval()
            self.samples = self.unstandardize(self.samples)
            self.snapshots = {
                key: (row, self.unstandardize(some), *outputs)
                for key, (row, some, *outputs) in self.snapshots.items()
            }
        return self

    def check_missing(
        self, real: Tensor, generated: Tensor, *, names: Sequence[str] | None = None
    ) -> None:
        """Check for integers (m,) generated less than a fifth as often as in real ones (n,).

        They may stand for `names`.
        """
        missing = missing_values(real, generated)
        named = [names[i] for i in missing] if names else missing
        listed = ", ".join(map(str, named[:10])) + (", ..." if len(named) > 10 else "")
        words = f"{len(named)} values are missing or rare: {listed}" if named else ""
        self.check(not named, words or "no value is missing")
        self.metrics["missing_values"] = named


def missing_values(real: Tensor, generated: Tensor) -> list[int]:
    """Integers of real ones (n,) that generated ones (m,) have less than a fifth as often."""
    depth = 1 + int(torch.cat([real, generated]).max())
    due = real.bincount(minlength=depth) / len(real)
    share = generated.bincount(minlength=depth) / max(len(generated), 1)
    return torch.nonzero((due > 0) & (share < due / 5)).flatten().tolist()


# --- Plots -------------------------------------------------------------------------------------

REAL, GENERATED = "#9a9a9a", "#0b4f8a"  # distinguishable in greyscale
D_COLORS, GRID_SIDE = ["#bcd4ea", "#ffffff", "#f6d9a8"], 48  # of the discriminator's output


class Figure(matplotlib.figure.Figure):
    """A figure of matplotlib that a notebook shows, without pyplot."""

    def _repr_png_(self) -> bytes:
        self.savefig(file := io.BytesIO(), format="png")
        return file.getvalue()


def xy(points: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The first two columns of points (n, features); zeros for a missing second one."""
    x, y, *_ = nn.functional.pad(points, (0, 1)).T.numpy()
    return x, y


def grid(points: Tensor) -> Tensor:
    """A grid (GRID_SIDE**2, 2) that covers points (n, 2), row by row."""
    axes = []
    for numbers in reversed(xy(points)):
        low, high = float(numbers.min()), float(numbers.max())
        margin = 0.07 * (high - low)
        axes.append(torch.linspace(low - margin, high + margin, GRID_SIDE))
    return torch.cartesian_prod(*axes).flip(1)


def plot_points(
    real: Tensor, generated: Tensor, history: Sequence[Evaluation], kept_epoch: int | None = None
) -> Figure:
    """Plots real and generated points (n, features), their histograms, and the history."""
    top = [["real", "generated", "x"], ["real", "generated", "y"]]
    figure, axes = plot_history(history, top, kept_epoch)
    for name, points, colour, bars in (
        ("real", real, REAL, "bar"),
        ("generated", generated, GENERATED, "step"),
    ):
        axes[name].scatter(*xy(points), s=4, color=colour, linewidths=0)
        axes[name].set(title=f"{name}: {len(points):,} points", xlabel="x", ylabel="y")
        ends = axes[name].axis(axes["real"].axis())
        style = {"label": name, "color": colour, "histtype": bars, "linewidth": 1.5}
        for part, numbers, end in zip("xy", xy(points), (ends[:2], ends[2:]), strict=True):
            bins, weights = np.linspace(end[0], end[1], 41), np.full(len(points), 100 / len(points))
            axes[part].hist(numbers, bins.tolist(), weights=weights, **style)
            axes[part].set(xlabel=part, ylabel="share in %")
    axes["x"].legend(loc="lower center")
    return figure


def plot_history(
    history: Sequence[Evaluation], top: list[list[str]], kept_epoch: int | None = None
) -> tuple[Figure, Any]:
    """Plots losses and distances, with the kept epoch, below the axes named in `top`."""
    figure = Figure(figsize=(10, 7), dpi=120, layout="constrained")
    heights, width = [3 / len(top)] * len(top) + [1.4], len(top[0])
    mosaic: Any = [*top, ["loss"] * (width - width // 3) + ["distance"] * (width // 3)]
    axes = figure.subplot_mosaic(mosaic, height_ratios=heights)
    epochs, d_losses, g_losses, distances = zip(*history, strict=True)
    axes["loss"].plot(epochs, d_losses, color=REAL, label="discriminator")
    axes["loss"].plot(epochs, g_losses, color=GENERATED, label="generator")
    axes["loss"].legend()
    axes["distance"].plot(epochs, distances, color=GENERATED)
    if kept_epoch:
        axes["distance"].axvline(kept_epoch, color=REAL, linestyle=":", label="kept")
        axes["distance"].legend()
    for name in ("loss", "distance"):
        axes[name].set(xlabel="epoch", ylabel=name)
    return figure, axes


def plot_frequencies(axis: Axes, real: Tensor, generated: Tensor) -> None:
    """Bar chart of the frequencies of integers, real (n,) and generated (m,)."""
    for integers, width, colour in ((real, 0.9, REAL), (generated, 0.45, GENERATED)):
        share = 100 * integers.bincount().numpy() / len(integers)
        axis.bar(np.arange(len(share)), share, width, color=colour)
    axis.set(ylabel="share in %")
    axis.margins(y=0.2)  # room for the legend
    axis.legend(["real", "generated"], loc="upper right", ncols=2)


def plot_interpolation(generated: Tensor, path: Tensor, x: str = "x", y: str = "y") -> Figure:
    """Plots interpolated points (steps, features), light to dark, over generated points."""
    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.scatter(*xy(generated), s=4, color=REAL, linewidths=0, label="generated")
    axes.plot(*xy(path), color=GENERATED, linewidth=0.5)
    steps = range(1, len(path) + 1)
    dots = axes.scatter(*xy(path), s=40, c=steps, cmap="Blues", edgecolors=GENERATED, zorder=3)
    figure.colorbar(dots, label="step of the walk")
    axes.set(xlabel=x, ylabel=y)
    axes.legend()
    return figure


def animate_points(real: Tensor, snapshots: Snapshots, x: str = "x", y: str = "y") -> bytes:
    """A GIF of generated points (n, features), epoch by epoch, over the real ones."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*xy(real[:1000]), s=4, color=REAL, linewidths=0, label="real")
    dots = axes.scatter([], [], s=4, color=GENERATED, linewidths=0, label="generated")
    axes.set(xlabel=x, ylabel=y)
    if len(next(iter(snapshots.values()))) == 3:
        (left, bottom), (right, top) = grid(real)[[0, -1]].tolist()
        colours = LinearSegmentedColormap.from_list("", D_COLORS)
        extent = left, right, bottom, top
        image = axes.imshow(np.zeros((2, 2)), colours, extent=extent, aspect="auto", origin="lower")
        doubt = torch.stack([(output - 0.5).abs().max() for _, _, output in snapshots.values()])
        image.set_clim(0.5 - doubt.median().item(), 0.5 + doubt.median().item())
        figure.colorbar(image, label="the discriminator's probability of real")
    axes.autoscale(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, markerscale=3)

    def show(rows: Tensor, d_output: Tensor | None = None) -> None:
        dots.set_offsets(np.stack(xy(rows[:1000]), 1))
        if d_output is not None:
            image.set_data(d_output.reshape(GRID_SIDE, GRID_SIDE).numpy())

    return animate(figure, snapshots, show)


def animate(figure: Figure, snapshots: Snapshots, show: Callable[..., object]) -> bytes:
    """Draws each snapshot with `show`; returns a GIF that pauses on the first and last frame."""
    canvas, frames, file = FigureCanvasAgg(figure), [], io.BytesIO()
    for row, *shown in snapshots.values():
        figure.axes[0].set_title(f"epoch {row.epoch}, distance {row.distance:.3f}")
        show(*shown)
        canvas.draw()
        figure.set_layout_engine("none")  # layout is slow; once is enough
        frame = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        frames.append(frame.quantize(64, Image.Quantize.FASTOCTREE))
    frames = [frames[0]] * 5 + frames + [frames[-1]] * 10  # identical frames are merged
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=200, loop=0)
    return file.getvalue()


# --- Files -------------------------------------------------------------------------------------


@contextmanager
def output_folder(folder: Path, messages: TextIO | None = None) -> Iterator[Path]:
    """A temporary folder; its files replace those of `folder` at the end, each as a whole.

    Failure if that cannot be done. If anything fails before, the earlier files stay.
    """
    place = folder / ".partial"
    with ExitStack() as stack:
        with cannot_save(f"in {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(folder / ".lock", timeout=0))
            except Timeout:
                reason = f"{folder} is in use by another run; wait, or choose another --out"
                raise Failure(reason) from None
            for earlier in place.glob("earlier/*"):  # a run was killed while it replaced a folder
                if not (folder / earlier.name).exists():
                    earlier.replace(folder / earlier.name)
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        yield place
        with cannot_save(f"in {folder}"):
            names = [path.name for path in place.iterdir()]
            (place / "earlier").mkdir()
            for name in names:
                if (folder / name).is_dir():
                    (folder / name).replace(place / "earlier" / name)
                (place / name).replace(folder / name)
    print(f"Saved in {folder}: {', '.join(sorted(names))}", file=messages)


@contextmanager
def cannot_save(what: str) -> Iterator[None]:
    """Turns an error of the file system into a Failure that names what could not be saved."""
    try:
        yield
    except OSError as error:
        reason = f"cannot save {what}: {error.strerror}"
        raise Failure(f"{reason}; free some space, or choose another --out") from None


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file; Failure if that cannot be done."""
    with cannot_save(path.name):
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def save_picture(path: Path, draw: Callable[..., Figure | bytes], *shown: Any) -> None:
    """Writes the figure or GIF that `draw` makes; an error is only reported: training is saved."""
    try:
        with warnings.catch_warnings(action="ignore"), rc_context({"text.parse_math": False}):
            picture = draw(*shown)  # names with two $ are not formulas
            content = picture._repr_png_() if isinstance(picture, Figure) else picture
    except Exception as error:  # of any kind: it depends on the data what can be drawn
        print(f"{path.name} could not be drawn: {error}", file=sys.stderr)
        return
    write_file(path, content)


def save(folder: Path, training: Training, inputs: int) -> None:
    """Saves the generator, (n, inputs) -> (n, outputs), the history and the metrics."""
    save_model(folder, "generator", training.generator, inputs)
    save_history(folder, training)


def save_model(folder: Path, name: str, model: nn.Module, inputs: int) -> None:
    """Saves a model (n, inputs) -> (n, outputs), any n, as TorchScript and by torch.export."""
    # Small, as torch.jit.trace keeps its activations alive
    example = torch.randn(16, inputs, generator=stream("example"))
    traced, script, program = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # that TorchScript is old
        torch.jit.save(torch.jit.trace(model, example, check_trace=False), traced)
        with zipfile.ZipFile(traced) as whole, zipfile.ZipFile(script, "w") as archive:
            for part in whole.namelist():  # without source paths, which differ between machines
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
    """A saved model (n, inputs) -> (n, outputs); Failure if missing, damaged or of other sizes."""
    try:
        content = path.read_bytes()
        if zipfile.ZipFile(io.BytesIO(content)).testzip():  # torch does not verify checksums
            raise ValueError
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            model = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
            shape = tuple(model(torch.zeros(3, inputs)).shape)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}; train first") from None
    except Exception:  # torch raises many kinds of errors for files that it cannot read or run
        reason = f"{path} is damaged, or was not saved by this script; train again"
        raise Failure(reason) from None
    if outputs and shape != (3, outputs):
        raise Failure(f"{path} has other input or output sizes; train again")
    return model


def save_history(folder: Path, training: Outcome) -> None:
    """Saves history.csv, one row per epoch, and metrics.json, the verdict and metrics."""
    rows = [training.history[0]._fields, *training.history]
    write_file(folder / "history.csv", "".join(",".join(map(str, row)) + "\n" for row in rows))
    metrics = {"verdict": training.verdict, "converged": training.converged, **training.metrics}
    metrics |= {"epochs": len(training.history), "kept_epoch": training.kept_epoch}
    metrics["best_epoch"] = training.kept_epoch  # its former name
    metrics |= {"interrupted": training.interrupted, "diverged": training.stopping.diverged}
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
        raise Failure(f"{path} has no numbers; expected {wanted} per line")
    return torch.tensor(rows, dtype=torch.float64)


# --- Command line ------------------------------------------------------------------------------

CHUNK = 4096  # rows per block: activations fit the CPU cache


class Parser(argparse.ArgumentParser):
    """A parser with the options that all scripts have; an error is one line."""

    def __init__(self, file: str, about: str | None, train: Callable, gan: bool = True) -> None:
        """For a script's file; `about` is the --help text; defaults come from `train`."""
        script, style = Path(file).stem, argparse.RawDescriptionHelpFormatter
        super().__init__(f"{script}.py", None, about, allow_abbrev=False, formatter_class=style)
        add, natural = self.add_argument, functools.partial(number, least=0)
        rate = functools.partial(number, kind=float, least=sys.float_info.min)
        add("--seed", metavar="N", type=natural, help="random seed (0)")
        add("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps (auto)")
        add("--epochs", metavar="N", type=number, help="epochs at most (%(default)s)")
        patience = "stop after N epochs without progress (%(default)s)"
        add("--patience", metavar="N", type=number, help=patience)
        add("--batch-size", metavar="N", type=number, help="batch size (chosen by the script)")
        add("--lr", metavar="X", type=rate, help="learning rate (%(default)s)")
        add("--out", metavar="DIR", type=Path, help="where results go (%(default)s)")
        add("--show", action="store_true", help="open the picture in a window")
        add("--quiet", action="store_true", help="no progress bar")
        if gan:
            some, walk = "write N samples of the saved generator", "save a latent walk of N steps"
            add("--generate", metavar="N", type=number, help=some)
            add("--interpolate", metavar="N", type=number, help=walk)
            add("--animate", action="store_true", help="also save an animation of the training")
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
    """The options that `train` takes."""
    names = ("seed", "epochs", "patience", "batch_size", "lr")
    more = {"device": choose_device(options.device), "progress": not options.quiet}
    return {name: getattr(options, name) for name in names} | more


def use_generator(options: argparse.Namespace, latent_dim: int, columns: int) -> int:
    """Serves --generate and --interpolate for points (n, columns); returns the exit status."""
    generator = load_model(options.out / "generator.pt", latent_dim, columns)
    names = ["x", "y"] if columns == 2 else [f"x{i + 1}" for i in range(columns)]
    if options.generate:
        print_rows(generate(generator, latent_dim, options), ",".join(names))
    if options.interpolate:
        random = stream("walk", options.seed)
        points = generator(torch.randn(2048, latent_dim, generator=random))
        path = generator(interpolate(options.interpolate, latent_dim, generator=random))
        with output_folder(options.out, sys.stderr if options.generate else None) as folder:
            save_picture(folder / "interpolation.png", plot_interpolation, points, path)
    return 0


def generate(model: nn.Module, latent_dim: int, options: argparse.Namespace) -> Iterator[Tensor]:
    """The samples (rows, features) for --generate, block by block."""
    random = stream("samples", options.seed)
    for start in range(0, options.generate, CHUNK):
        # Whole blocks, the last one too: randn draws the numbers of a part in another order
        noise = torch.randn(CHUNK, latent_dim, generator=random)
        with torch.no_grad():
            yield model(noise)[: options.generate - start]


def print_rows(blocks: Iterator[Tensor], header: str, style: str | None = None) -> None:
    """Prints blocks of rows (n, columns) as CSV, numbers in full or formatted with `style`."""
    print(header)
    for rows in blocks:
        exact = "%r" if rows.dtype == torch.float64 else "%.9g"
        line = ",".join([style or exact] * rows.shape[1]) + "\n"
        sys.stdout.write(line * len(rows) % tuple(rows.flatten().tolist()))


def interpolate(
    steps: int, latent_dim: int, stops: int = 4, generator: torch.Generator | None = None
) -> Tensor:
    """Noise (steps, latent_dim) on arcs between random points; each step is standard normal.

    The arcs are quarter turns, whatever the angle between the points.
    """
    stop = torch.randn(stops, latent_dim, generator=generator)
    way = torch.linspace(0, stops - 1, steps)
    last = way.floor().long().clamp(max=stops - 2)
    angle = (math.pi / 2 * (way - last)).unsqueeze(1)
    return angle.cos() * stop[last] + angle.sin() * stop[last + 1]


def report(training: Outcome, options: argparse.Namespace) -> int:
    """Prints the outcome, shows the picture if asked to, and returns the exit status."""
    ending = ", interrupted" if training.interrupted else ""
    ending += ", diverged (lower --lr)" if training.stopping.diverged else ""
    samples, epochs = training.metrics["samples"], len(training.history)
    done = f"Trained on {samples:,} samples for {epochs} epochs{ending}"
    print(f"{done}, kept epoch {training.kept_epoch}.")
    print(training.verdict)
    if options.show:
        import matplotlib.pyplot as plt  # needs a display

        plt.figure(figsize=(10, 7), layout="constrained")
        plt.imshow(plt.imread(options.out / "samples.png"))
        plt.axis("off")
        plt.show()  # blocks until the window is closed
        plt.close()
    return 130 if training.interrupted else 0


class Output:
    """Standard output; its errors are NotPrinted, and it can show any character."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        if isinstance(stream, io.TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write; NotPrinted if that cannot be done."""
        try:
            return self.stream.write(text)
        except OSError as error:
            raise NotPrinted(error.strerror) from error

    def flush(self) -> None:
        """Write what is left; NotPrinted if that cannot be done."""
        try:
            self.stream.flush()
        except OSError as error:
            raise NotPrinted(error.strerror) from error

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


def command(main: Callable[..., int]) -> Callable[..., int]:
    """Turns errors of `main` into one line on standard error, and an exit status.

    SIGTERM ends a training as Ctrl-C does.
    """
    script = Path(inspect.getfile(main)).name

    @functools.wraps(main)
    def wrapper(argv: Sequence[str] | None = None) -> int:
        terminated = []

        def terminate(*_: object) -> NoReturn:
            terminated.append(True)
            raise KeyboardInterrupt

        if argv is None and "ipykernel" in sys.modules and Path(sys.argv[0]).name != script:
            argv = []  # in a notebook, as the command line is Jupyter's own
        with suppress(ValueError):  # outside the main thread, Python has no signals
            signal.signal(signal.SIGTERM, terminate)
        reason = ""
        try:
            sys.stderr = sys.stderr or io.StringIO()  # None if it is closed
            with redirect_stdout(Output(sys.stdout or io.StringIO())):
                status = main(argv)
                print(end="", flush=True)
        except NotPrinted as failed:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
            closed = isinstance(failed.__cause__, BrokenPipeError)  # as by `| head`
            reason, status = "" if closed else f"cannot print: {failed}", 0 if closed else 1
        except (Failure, InputError) as error:
            reason, status = str(error), 2 if isinstance(error, InputError) else 1
        except (MemoryError, RuntimeError) as error:
            full = isinstance(error, MemoryError | torch.OutOfMemoryError)
            if not full and "allocate memory" not in str(error):
                raise
            reason, status = "out of memory; lower --batch-size, or use less data", 1
        except KeyboardInterrupt as interrupt:
            reason, status = str(interrupt) or "interrupted, nothing new was saved", 130
        finally:
            with suppress(ValueError):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if reason:
            print(f"{script}: {reason}", file=sys.stderr)
        return 143 if terminated and status == 130 else status

    return wrapper
