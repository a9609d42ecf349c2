"""What all scripts share: copy this file along with the script that you copy.

Sections: device and one-hot codec, data, building blocks, distance, training, plots, files,
command line.
"""

import argparse
import codecs
import functools
import hashlib
import inspect
import io
import json
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self, TextIO

import matplotlib.figure
import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image  # installed with matplotlib
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm


class Failure(Exception):
    """The operation failed; the message says why and what to do, in one line."""

    status = 1  # exit status


class InputError(Failure, ValueError):
    """An option or the data are invalid; the message says why, in one line."""

    status = 2


# --- Device and one-hot codec ------------------------------------------------------------------


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
    """Gradients, float32 and the CPU by default, whatever the caller has set; `threads` on the CPU.

    One thread is faster for small networks, and gives the same results for any number of cores.
    """
    threads_before, dtype_before = torch.get_num_threads(), torch.get_default_dtype()
    on_cpu = torch.empty(0).device.type == "cpu"
    cpu = nullcontext() if on_cpu else torch.device("cpu")  # which would slow each call
    torch.set_num_threads(threads or threads_before)
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), cpu:
            yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_default_dtype(dtype_before)


def stream(use: str, seed: int = 0) -> torch.Generator:
    """A random generator of its own for each use and seed."""
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
    """Data (n, features), a tensor or what numpy reads as numbers, as a finite CPU tensor.

    Integers and float64 become float64, narrower floats float32. ValueError for other data.
    """
    try:
        if not isinstance(data, Tensor):
            array = np.array(data)
            data = torch.from_numpy(array.astype(np.float64) if array.dtype == object else array)
        narrow = data.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.bool)
        rows = data.detach().cpu().to(torch.float32 if narrow else torch.float64)
    except (TypeError, ValueError):
        raise InputError("data must be rows of numbers, all of the same length") from None
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"data must have the shape (n, features), not {tuple(rows.shape)}")
    wrong = rows[~(rows.abs() <= LARGEST)]  # also NaN
    if len(wrong):
        raise InputError(f"data must be finite numbers up to {LARGEST:g}, but hold {wrong[0]:g}")
    return rows


class Standardize(nn.Module):
    """Shifts and scales columns (n, features) to mean 0 and standard deviation 1, as float32.

    `one_unit`, for pixels, uses one mean and one deviation for all columns. If more than 0.5 % of a
    column lies beyond `max_std`, it is scaled down further: far clusters would be lost.
    """

    mean: Tensor  # (features,)
    std: Tensor  # (features,), 0 for constant columns

    def __init__(self, rows: Tensor, one_unit: bool = False, max_std: float = math.inf) -> None:
        super().__init__()
        # float64: float32 loses the variance of columns with a large mean
        std, mean = torch.std_mean(rows.double(), None if one_unit else 0, correction=0)
        if max_std < math.inf:
            far = (rows - mean).abs().kthvalue(math.ceil(0.995 * len(rows)), dim=0).values
            std = torch.maximum(std, far / max_std)
        varies = one_unit | (rows != rows[0]).any(dim=0)
        self.register_buffer("mean", mean.where(varies, rows[0]).to(rows.dtype))
        self.register_buffer("std", std.where(varies, 0).to(rows.dtype))

    def forward(self, rows: Tensor) -> Tensor:
        return ((rows - self.mean) / self.std.where(self.std > 0, 1)).float()


class Unstandardize(Standardize):
    """Inverse of Standardize, in the type of the data; constant columns are restored exactly."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.std + self.mean


# --- Building blocks ---------------------------------------------------------------------------


class Batches:
    """Endless shuffled batches (size, features) of rows (n, features)."""

    def __init__(self, rows: Tensor, size: int) -> None:
        self.rows, self.size = rows, size
        self.shuffled = torch.empty(0, dtype=torch.int64, device=rows.device)  # still to come

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
        for _ in range(8):
            even = sobol.draw(8 * size).clamp(1e-6, 1 - 1e-6)  # 0 and 1 would become infinite
            yield from torch.special.ndtri(even).to(device).split(size)


class FourierFeatures(nn.Module):
    """Appends sines and cosines, so that a network learns fine detail: (n, m) -> (n, 7 * m).

    The frequencies are fixed: the positional encoding of NeRF (Mildenhall et al. 2020).
    """

    def forward(self, inputs: Tensor) -> Tensor:
        phases = torch.cat([inputs, 2 * inputs, 4 * inputs], dim=1)
        return torch.cat([inputs, phases.sin(), phases.cos()], dim=1)


def fourier_mlp(inputs: int, width: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    """Fourier features, then three hidden layers: (n, inputs) -> (n, outputs)."""
    layers: list[nn.Module] = [FourierFeatures()]
    for size in (7 * inputs, width, width):
        layers += [nn.Linear(size, width), activation]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def gradient_penalty(scores: Tensor, rows: Tensor) -> Tensor:
    """Mean squared gradient norm of the scores (n, 1) at the rows (n, features), or at pictures.

    With the loss averaged over the same rows, real and generated, it is R1 + R2 without their
    factor 1/2 (Mescheder et al. 2018).
    """
    (slopes,) = torch.autograd.grad(scores.sum(), rows, create_graph=True)
    return slopes.flatten(1).square().sum(dim=1).mean()


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Updates the exponential moving average (EMA) of weights and of batch-norm statistics."""
    parts = [[*network.parameters(), *network.buffers()] for network in (ema, model)]
    old, new = ([part for part in each if part.is_floating_point()] for each in parts)
    get_ema_multi_avg_fn(decay)(old, new, 0)


def recorded(device: torch.device) -> Callable[[Callable], Callable]:
    """Decorates a training step: on a CUDA GPU, it is recorded as a CUDA graph, and replayed.

    The third call is recorded; a replay saves Python the start of each operation. Inputs are
    tensors, of the same shapes in each call, and each set of keywords has its own graph; any other
    value stays what it was when recorded. A step that waits for the GPU is called, not recorded.
    """

    def decorate(step: Callable) -> Callable:
        if device.type != "cuda" or (distributed.is_available() and distributed.is_initialized()):
            return step
        calls: Counter[tuple] = Counter()
        graphs: dict[tuple, tuple] = {}
        side = torch.cuda.Stream(device)  # for all calls: the default stream cannot be recorded

        def call(*inputs: Tensor, **keywords: Any) -> Any:
            key, current = tuple(keywords.items()), torch.cuda.current_stream(device)
            if key in graphs:
                graph, fixed, losses = graphs[key]
                for old, new in zip(fixed, inputs, strict=True):
                    old.copy_(new)
                graph.replay()
                return losses
            side.wait_stream(current)
            try:
                with torch.cuda.stream(side):
                    losses = step(*inputs, **keywords)
            finally:
                current.wait_stream(side)
            calls[key] += 1
            if calls[key] == 3:
                fixed, graph = [each.clone() for each in inputs], torch.cuda.CUDAGraph()
                try:
                    with torch.cuda.device(device), torch.cuda.graph(graph, stream=side):
                        with warnings.catch_warnings(action="ignore"):  # "a prototype feature"
                            torch.cuda.set_sync_debug_mode("error")  # a wait would spoil the graph
                        recorded_losses = step(*fixed, **keywords)
                    graphs[key] = graph, fixed, recorded_losses
                except RuntimeError as error:
                    reason = str(error).partition("\n")[0]
                    print(f"Not recorded as a CUDA graph, so slower: {reason}", file=sys.stderr)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            return losses

        return call

    return decorate


def set_lr(lr: float, *optimizers: torch.optim.Optimizer) -> None:
    """Sets the learning rate; for a recorded step as a tensor, which it reads each time."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        device = group["params"][0].device
        group["capturable"] = device.type == "cuda"
        rate = torch.as_tensor(group["lr"], device=device).fill_(lr)
        group["lr"] = rate if group["capturable"] else lr


# --- Distance ----------------------------------------------------------------------------------


def sliced_wasserstein(real: Tensor, samples: Tensor) -> float:
    """Sliced 2-Wasserstein distance of samples (m, features) to real rows (n, features).

    Both are standardised as the real rows are. They are projected on 64 directions and sorted; the
    distance is the root of the mean squared difference (Bonneel et al. 2015). Samples off the real
    rows raise it, and so do real rows left out; infinite numbers make it infinite.
    """
    normal = torch.randn(64, real.shape[1], generator=stream("directions"))
    directions = normal / normal.norm(dim=1, keepdim=True)
    projections = [(directions @ rows.T).numpy() for rows in (real, samples)]
    if not np.isfinite(projections[1]).all():
        return math.inf
    fewer, more = sorted((np.sort(each, axis=1) for each in projections), key=np.size)
    quantiles = (np.arange(more.shape[1]) + 0.5) / more.shape[1]
    same_quantile = fewer[:, (quantiles * fewer.shape[1]).astype(int)]
    return float(np.sqrt(np.square(same_quantile - more, dtype=np.float64).mean()))


def fresh_distance(rows: Tensor) -> float:
    """The distance that as many fresh rows have to these (n, features), in about 19 of 20 cases.

    It is 0.8 of the 95th percentile of 40 distances between random halves: with twice as many rows,
    distances fall to 0.71 (1 / sqrt 2) on curves, and to 0.84 where the shares of clusters decide.
    """
    random, half = stream("halves"), max(len(rows) // 2, 1)
    mixed = (rows[torch.randperm(len(rows), generator=random)] for _ in range(40))
    distances = [sliced_wasserstein(x[:half], x[-half:]) for x in mixed]
    return 0.8 * float(np.quantile(distances, 0.95))


def precision_and_coverage(real: Tensor, generated: Tensor) -> tuple[float, float]:
    """Share of generated rows (n, features) near real ones, and of real ones near generated ones.

    Near is within the distance of the real row to its fifth nearest other one, or 0.1 standard
    deviations: precision (Kynkaanniemi et al. 2019) and coverage (Naeem et al. 2020). At most
    4,096 real rows and 8,192 generated ones are compared, all standardised as the real ones are.
    """
    real = real[:: math.ceil(len(real) / 4096)]
    generated = generated[:: math.ceil(len(generated) / 8192)]
    fifth = min(1 + 5, len(real))  # past the row itself
    reach = torch.cdist(real, real).kthvalue(fifth, dim=1).values.clamp(min=0.1)
    near = torch.cdist(generated, real) <= reach
    return near.any(dim=1).float().mean().item(), near.any(dim=0).float().mean().item()


# --- Training ----------------------------------------------------------------------------------

DIVERGED = 1e6  # larger losses and distances count as divergence
MIN_PROGRESS = 0.1  # smallest gain that counts, as a share of the distance of real samples


def check_count(name: str, count: int) -> int:
    """The count; ValueError unless it is an integer of at least 1."""
    if not isinstance(count, int | np.integer) or count < 1:
        raise InputError(f"{name} must be an integer of at least 1, not {count!r}")
    return count


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
        self.epoch, self.last_epoch = 0, check_count("epochs", epochs)
        self.patience = check_count("patience", patience)
        self.cooldown = min(cooldown, epochs // 2)
        self.tolerance, self.min_progress = tolerance, min_progress
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
        return self.diverged or self.epoch >= self.last_epoch

    @property
    def lr_factor(self) -> float:
        """Factor on the learning rate of the next epoch: 1, then 1 - sqrt (Hagele et al. 2024)."""
        left = min(1, (self.last_epoch - self.epoch) / (self.cooldown + 1))
        return 1 - math.sqrt(1 - left)

    def load_best(self, model: nn.Module) -> nn.Module:
        """`model` with the kept weights, on the CPU, in eval mode.

        KeyboardInterrupt if no epoch has ended, Failure if training diverged from the start.
        """
        if not self.epoch:
            raise KeyboardInterrupt("interrupted before an epoch ended, nothing was saved")
        if not self.kept_epoch:
            raise Failure("training diverged from the start, nothing was saved; lower --lr")
        model.load_state_dict(self.weights)
        return model.eval().cpu().requires_grad_(False)


class Evaluation(NamedTuple):
    """One row of the history."""

    epoch: int
    discriminator_loss: float
    generator_loss: float
    distance: float


class Training:
    """Measures a GAN while it trains, and is what `train` returns."""

    generator: nn.Module  # the kept one, on the CPU, in eval mode, in the units of the data
    sample: Callable[..., Any]  # tables only: sample(n, where) gives rows as a DataFrame
    samples: Tensor  # (n, features)
    distance: float  # from these to real rows
    ratio: float  # of this to the distance that as many fresh real rows may have
    precision: float  # share of the samples that are near real rows
    coverage: float  # share of the real rows that are near samples

    def __init__(
        self, data: object, *, seed: int, epochs: int, patience: int, batch_size: int | None,
        progress: bool, cooldown: int = 0, max_std: float | None = None,
        features: Callable[[Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        """For `data` (n, features); seeds torch; ValueError if they or a setting are invalid.

        With `max_std`, the networks see standardised rows, as by Standardize. For images, rows are
        compared by their `features` (n, m), which have one unit.
        """
        self.data, self.progress = as_rows(data), progress
        n = len(self.data)
        if check_count("batch_size", n if batch_size is None else batch_size) > n:
            raise InputError(f"batch_size {batch_size} is larger than the data, {n} rows")
        self.standardize: nn.Module = nn.Identity()
        self.restore: nn.Module = nn.Identity()
        if max_std:
            self.standardize = Standardize(self.data, max_std=max_std)
            self.restore = Unstandardize(self.data, max_std=max_std)
        self.train_rows = self.standardize(self.data).float()
        self.features = features or nn.Identity()
        # Against more than 1,000 fresh images, every generator would fail
        real = self.features(self.data[:: math.ceil(n / (1000 if features else 5000))])
        self.unit = Standardize(real, one_unit=features is not None)
        self.real = self.unit(real)
        self.real_distance = fresh_distance(self.real)
        gain = MIN_PROGRESS * self.real_distance
        self.stopping = EarlyStopping(epochs, patience, cooldown, self.real_distance, gain)
        self.stopped = False
        self.history: list[Evaluation] = []
        # For the animation: evaluation, samples (n, features) and output of the discriminator
        self.snapshots: dict[int, tuple[Any, ...]] = {}
        self.checks: list[tuple[bool, str]] = []  # whether it passed, and a sentence
        self.metrics: dict[str, Any] = {"samples": n, "seed": seed}
        self.advice = "Try more --epochs, another --seed or a lower --lr."
        torch.manual_seed(stream("training", seed).initial_seed())

    def epochs(self) -> Iterator[int]:
        """Counts epochs from 1, with a progress bar, until early stopping ends the training."""
        total, hidden = self.stopping.last_epoch, not self.progress
        with tqdm(total=total, unit="epoch", leave=False, disable=hidden) as bar:
            while not self.stopped:
                epoch = len(self.history) + 1
                yield epoch
                if len(self.history) < epoch:
                    raise RuntimeError("each epoch must end with a call of training.evaluate")
                bar.set_postfix(self.history[-1]._asdict(), refresh=False)
                bar.update(epoch - bar.n)

    def evaluate(
        self, generator: nn.Module, noise: Tensor, d_loss: Tensor, g_loss: Tensor,
        discriminator: nn.Module | None = None,
    ) -> None:  # fmt: skip
        """Measure the generator after an epoch, on noise (n, LATENT_DIM).

        With a discriminator, the animation shows its output behind points (n, 2).
        """
        outputs = []
        with torch.no_grad():
            samples = self.restore(generator(noise).cpu())
            if discriminator and samples.shape[1] == 2:
                points = self.standardize(grid(self.data)).to(noise)
                outputs = [discriminator(points).sigmoid().cpu()]
        distance = sliced_wasserstein(self.real, self.unit(self.features(samples)))
        row = Evaluation(len(self.history) + 1, d_loss.item(), g_loss.item(), distance)
        some = samples[: 64 + 2**17 // samples[0].numel()].clone()  # at most about a megabyte
        self.snapshots[int(8 * math.log2(row.epoch))] = row, some, *outputs  # 8 per doubling
        self.history.append(row)
        diverged = not all(abs(number) < DIVERGED for number in row[1:])
        self.stopped = self.stopping.update(math.nan if diverged else distance, generator)

    def finish(
        self, generator: nn.Module, noise: Tensor, *, min_rows: int = 50,
        max_ratio: float = 1.0, min_precision: float = 0.96, min_coverage: float = 0.99,
    ) -> Self:  # fmt: skip
        """Load the best weights, measure them on new noise (n, LATENT_DIM), and check them.

        The verdict on fewer than `min_rows` rows of data is never good.
        """
        self.generator = self.stopping.load_best(generator)
        if isinstance(self.restore, Unstandardize):
            self.generator = nn.Sequential(self.generator, self.restore).eval()
        if self.interrupted:
            words = f"Interrupted after epoch {len(self.history)}, keeping what was learned"
            print(f"{words}; press Ctrl-C again to stop at once.", file=sys.stderr, flush=True)
        if len(self.data) < min_rows:
            self.check(False, f"too few rows of data to tell: {len(self.data)} of {min_rows}")
            self.advice = "Train on more rows."
        self.samples = self.generator(noise)
        real, generated = self.real, self.unit(self.features(self.samples))
        self.distance = sliced_wasserstein(real, generated)
        self.ratio = self.distance / max(self.real_distance, 1e-3)
        words = f"distance {self.distance:.3f} to {len(real):,} real samples"
        self.check(self.ratio <= max_ratio, f"{words} (fresh ones: up to {self.real_distance:.3f})")
        self.precision, self.coverage = precision_and_coverage(real, generated)
        words = f"{self.precision:.1%} of generated samples are near real ones"
        self.check(self.precision >= min_precision, words)
        words = f"{self.coverage:.1%} of real samples are near generated ones"
        self.check(self.coverage >= min_coverage, words)
        both = (rows.round(decimals=3).unique(dim=0) for rows in (real, generated))
        distinct_real, distinct = map(len, both)
        if distinct < 0.75 * distinct_real:  # repeats some of the rows
            self.check(False, f"only {distinct:,} distinct samples are generated")
        self.metrics |= {
            "distance": self.distance, "ratio": self.ratio,
            "distance_of_real_samples": self.real_distance, "precision": self.precision,
            "coverage": self.coverage, "recall": self.coverage,  # a former name
        }  # fmt: skip
        return self

    def check_missing(
        self, real: Tensor, generated: Tensor, names: Sequence[str] | None = None
    ) -> None:
        """Check for integers generated (m,) less than a fifth as often as they are real (n,).

        They may be indices into `names`, of which any number may be rare: those that are due less
        than 10 times are left out, as chance may miss them.
        """
        depth = 1 + int(torch.cat([real, generated]).max())
        due, share = (x.bincount(minlength=depth) / max(len(x), 1) for x in (real, generated))
        enough = (due > 0) & (due * len(generated) >= (10 if names else 0))
        missing = torch.nonzero(enough & (share < due / 5)).flatten().tolist()
        self.metrics["missing_values"] = [names[i] for i in missing] if names else missing
        listed = ", ".join(map(str, self.metrics["missing_values"][:10]))
        words = f"missing or rare: {listed}{', ...' * (len(missing) > 10)}"
        none = f"no {'category' if names else 'value'} is missing"
        self.check(not missing, words if missing else none)

    def check(self, passed: bool, sentence: str) -> None:
        """Add a sentence to the verdict."""
        self.checks.append((bool(passed), sentence))

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or a signal ended the training."""
        return not self.stopped

    @property
    def converged(self) -> bool:
        """Whether something was checked, and every check passed."""
        return bool(self.checks) and all(passed for passed, _ in self.checks)

    @property
    def verdict(self) -> str:
        """The verdict in one line, with advice if a check failed."""
        sentences = "; ".join(sentence for _, sentence in self.checks) or "nothing was checked"
        if self.converged:
            return f"Good: {sentences}."
        return f"WARNING, not converged: {sentences}. {self.advice}"


# --- Plots -------------------------------------------------------------------------------------

REAL, GENERATED = "#9a9a9a", "#0b4f8a"  # distinguishable in greyscale
D_COLORS, GRID_SIDE = ["#bcd4ea", "#ffffff", "#f6d9a8"], 48  # generated, unsure, real


class Figure(matplotlib.figure.Figure):
    """A figure of matplotlib that a notebook shows, without pyplot."""

    def _repr_png_(self) -> bytes:
        self.savefig(file := io.BytesIO(), format="png")
        return file.getvalue()


def grid(points: Tensor) -> Tensor:
    """A grid (GRID_SIDE**2, 2) that covers points (n, 2), row by row."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    margin = 0.07 * (high - low)
    ends = zip((low - margin).tolist(), (high + margin).tolist(), strict=True)
    x, y = (torch.linspace(*each, GRID_SIDE) for each in ends)
    return torch.cartesian_prod(y, x).flip(1)


def plot_history(training: Training, top: list[list[str]]) -> tuple[Figure, Any]:
    """Plots losses and distances, with the kept epoch, below the axes named in `top`."""
    figure, width = Figure(figsize=(10, 7), dpi=120, layout="constrained"), len(top[0])
    bottom = ["loss"] * (width - width // 3) + ["distance"] * (width // 3)
    heights = [3 / len(top)] * len(top) + [1.4]
    mosaic: Any = [*top, bottom]
    axes: Any = figure.subplot_mosaic(mosaic, height_ratios=heights)
    epochs, d_losses, g_losses, distances = zip(*training.history, strict=True)
    axes["loss"].plot(epochs, d_losses, color=REAL, label="discriminator")
    axes["loss"].plot(epochs, g_losses, color=GENERATED, label="generator")
    axes["distance"].plot(epochs, distances, color=GENERATED)
    axes["distance"].axvline(training.stopping.kept_epoch, color=REAL, ls=":", label="kept")
    for name in ("loss", "distance"):
        axes[name].set(xlabel="epoch", ylabel=name)
        axes[name].legend()
    return figure, axes


def plot_points(training: Training) -> Figure:
    """Plots real and generated points (n, 2), their histograms, and the history."""
    top = [["real", "generated", "x"], ["real", "generated", "y"]]
    figure, axes = plot_history(training, top)
    data = training.data
    for name, points, colour in (("real", data, REAL), ("generated", training.samples, GENERATED)):
        x, y = points[: len(data)].T.numpy()
        axes[name].scatter(x, y, s=4, color=colour, linewidths=0)
        axes[name].set(title=f"{name}: {len(x):,} points", xlabel="x", ylabel="y")
        axes[name].axis(axes["real"].axis())
        for part, numbers, (low, high) in zip(
            "xy", (x, y), grid(data)[[0, -1]].T.tolist(), strict=True
        ):
            axes[part].hist(numbers, np.linspace(low, high, 41), color=colour, histtype="step")
            axes[part].set(xlabel=part, ylabel="points")
    return figure


def plot_interpolation(generated: Tensor, path: Tensor, names: Sequence[str]) -> Figure:
    """Plots interpolated points (steps, features), light to dark, over generated points.

    With one name, the numbers are plotted over the steps.
    """
    if len(names) == 1:
        names, generated = ["step", *names], torch.empty(0, 2)
        path = torch.stack([torch.arange(len(path)) + 1, path.flatten()], dim=1)
    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.scatter(generated[:, 0], generated[:, 1], s=4, color=REAL, linewidths=0, label="generated")
    x, y = path[:, 0].numpy(), path[:, 1].numpy()
    axes.plot(x, y, color=GENERATED, linewidth=0.5)
    steps = range(1, len(path) + 1)
    dots = axes.scatter(x, y, s=40, c=steps, cmap="Blues", edgecolors=GENERATED, zorder=3)
    figure.colorbar(dots, label="step of the walk")
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.legend()
    return figure


def animate_points(
    training: Training, x: str = "x", y: str = "y",
    points: Callable[[Tensor], Tensor] = lambda rows: rows[:1000, :2],
) -> bytes:  # fmt: skip
    """A GIF of generated rows (n, features), epoch by epoch, over the real ones.

    `points` turns rows into points (m, 2).
    """
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    real = points(training.data)
    axes.scatter(real[:, 0], real[:, 1], s=4, color=REAL, linewidths=0, label="real")
    dots = axes.scatter([], [], s=4, color=GENERATED, linewidths=0, label="generated")
    axes.set(xlabel=x, ylabel=y)
    outputs = [output for _, _, *seen in training.snapshots.values() for output in seen]
    if outputs:
        colours = LinearSegmentedColormap.from_list("", D_COLORS)
        extent: Any = grid(training.data)[[0, -1]].T.flatten().tolist()  # left, right, bottom, top
        image = axes.imshow(np.zeros((2, 2)), colours, extent=extent, aspect="auto", origin="lower")
        doubt = torch.stack([(output - 0.5).abs().max() for output in outputs]).median().item()
        image.set_clim(0.5 - doubt, 0.5 + doubt)
        figure.colorbar(image, label="the discriminator's probability of real")
    axes.autoscale(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, markerscale=3)

    def show(rows: Tensor, d_output: Tensor | None = None) -> None:
        dots.set_offsets(points(rows).numpy())
        if d_output is not None:
            image.set_data(d_output.reshape(GRID_SIDE, GRID_SIDE).numpy())

    return animate(figure, training, show)


def animate(figure: Figure, training: Training, show: Callable[..., object]) -> bytes:
    """Draws each snapshot with `show`; returns a GIF that pauses on the first and last frame."""
    canvas, frames, file = FigureCanvasAgg(figure), [], io.BytesIO()
    for row, *shown in training.snapshots.values():
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
    """A temporary folder whose files move to `folder` at the end, each as a whole.

    Failure if files cannot be written. If anything fails, the earlier files stay.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
        try:
            yield temporary
            names = sorted(path.name for path in temporary.iterdir())
            for name in names:
                if (folder / name).is_dir():  # of images: only an empty one could be replaced
                    (folder / name).rename(temporary / f"earlier {name}")
                (temporary / name).replace(folder / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.filename and not Path(error.filename).is_relative_to(folder):
            raise  # not about these files
        remedy = "free some space, or choose another --out"
        raise Failure(f"cannot save in {folder}: {error.strerror or error}; {remedy}") from None
    print(f"Saved in {folder}: {', '.join(names)}", file=messages)


def save_picture(path: Path, draw: Callable[..., Figure | bytes], *shown: Any) -> None:
    """Writes the figure or GIF that `draw` makes; an error is only reported: training is saved."""
    try:
        with rc_context({"text.parse_math": False}), warnings.catch_warnings(action="ignore"):
            picture = draw(*shown)  # names with two $ are not formulas
            content = picture._repr_png_() if isinstance(picture, Figure) else picture
    except Exception as error:  # any kind: what can be drawn depends on the data
        print(f"{path.name} could not be drawn: {error}", file=sys.stderr)
    else:
        path.write_bytes(content)


def save(folder: Path, training: Any, inputs: int, **models: nn.Module) -> None:
    """Saves models (n, inputs) -> (n, outputs) by name, any n, history.csv and metrics.json.

    A model is saved as TorchScript and by torch.export.
    """
    rows = ({0: torch.export.Dim("rows", max=2**48)},)  # torch 2.7 refuses to go up to 2**63
    example = (torch.zeros(16, inputs),)  # small: torch.jit.trace keeps its activations in memory
    for name, model in models.items():
        script, program = io.BytesIO(), io.BytesIO()
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
            torch.jit.save(torch.jit.trace(model, example, check_trace=False), script)
            exported = torch.export.export(model, example, dynamic_shapes=rows, strict=False)
            torch.export.save(exported, program)
        (folder / f"{name}.pt").write_bytes(script.getvalue())
        (folder / f"{name}.pt2").write_bytes(program.getvalue())
    lines = [training.history[0]._fields, *training.history]
    (folder / "history.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    kept = training.stopping.kept_epoch
    metrics = {
        "verdict": training.verdict, "converged": training.converged, **training.metrics,
        "epochs": len(training.history), "kept_epoch": kept, "best_epoch": kept,
        "interrupted": training.interrupted, "diverged": training.stopping.diverged,
        "torch": torch.__version__, "python": sys.version.split()[0],
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


def load_model(path: Path, inputs: int | None, outputs: int | None = None) -> nn.Module:
    """A saved model (n, inputs) -> (n, outputs); Failure if missing, damaged or of other sizes.

    With None, `inputs` are as many as its first weights take, and outputs have any shape.
    """
    try:
        content = io.BytesIO(path.read_bytes())
        damaged = zipfile.ZipFile(content).testzip()  # torch does not verify checksums
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            model = torch.jit.load(io.BytesIO(content.getvalue()), map_location="cpu").eval()
            shape = model(torch.zeros(3, inputs or next(model.parameters()).shape[1])).shape
        if damaged or shape[0] != 3 or (outputs and shape[1:] != (outputs,)):
            raise ValueError
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}; train first") from None
    except Exception:  # torch raises many kinds of errors for files that it cannot read
        reason = f"{path} is damaged, or was not saved by this script; train again"
        raise Failure(reason) from None
    return model


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or Windows-1252; Failure if it cannot be read."""
    try:
        content = path.read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16")
        with suppress(UnicodeDecodeError):
            return content.decode("utf-8-sig")
        return content.decode("cp1252", errors="replace")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise Failure(f"cannot read {path}: {reason}") from None


def read_numbers(path: Path, columns: int, depth: int | None = None) -> Tensor:
    """Rows (n, columns) of a CSV file; with `depth`, integers below it. Errors name the line.

    Commas, semicolons, tabs, bars or blanks separate the numbers.
    """
    wanted = f"an integer in 0..{depth - 1}" if depth else f"{columns} finite number(s)"
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        cells = re.split(r"\s*[,;\t|]\s*|\s+", line.strip().rstrip(",;|").strip())
        try:
            row = [float(cell.strip('"')) for cell in cells]
            valid = all(x in range(depth) if depth else abs(x) <= LARGEST for x in row)
        except ValueError:
            row, valid = [], number == 1 or not line.strip()  # the first line may be a header
        if not valid or len(row) not in (0, columns):
            reason = f"expected {wanted}, found {line[:40]!r}"
            raise InputError(f"{path}, line {number}: {reason}")
        rows += [row] if row else []
    if not rows:
        raise InputError(f"{path} has no numbers; expected {wanted} per line")
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
        patience = "epochs without progress until the learning rate decays (%(default)s)"
        add("--patience", metavar="N", type=number, help=patience)
        add("--batch-size", metavar="N", type=number, help="batch size (chosen by the script)")
        add("--lr", metavar="X", type=rate, help="learning rate (%(default)s)")
        add("--out", metavar="DIR", type=Path, help="where results go (%(default)s)")
        add("--show", action="store_true", help="open the picture in a window")
        add("--quiet", action="store_true", help="no progress bar")
        if gan:
            add("--generate", metavar="N", type=number, help="N samples of the saved generator")
            add("--interpolate", metavar="N", type=number, help="a picture of a walk of N steps")
            add("--animate", action="store_true", help="also save an animation of the training")
        where = {"device": "auto", "out": Path("outputs", script.removesuffix("_gan"))}
        self.set_defaults(**inspect.unwrap(train).__kwdefaults__ | where)

    def settings(self, options: argparse.Namespace) -> dict[str, Any]:
        """The options that `train` takes."""
        names = ("seed", "epochs", "patience", "batch_size", "lr")
        more = {"device": choose_device(options.device), "progress": not options.quiet}
        return {name: getattr(options, name) for name in names} | more

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def number(text: str, kind: Callable[[str], float] = int, least: float = 1) -> float:
    """The type of an option: an integer of at least `least`, or a positive float."""
    with suppress(ValueError):
        if least <= kind(text) < (2**63 if kind is int else math.inf):
            return kind(text)
    wanted = f"an integer of at least {least}" if kind is int else "a positive number"
    raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")


def use_generator(
    options: argparse.Namespace, latent_dim: int, names: Sequence[str],
    decode: Callable[[Tensor], Tensor] = lambda rows: rows, outputs: int = 2,
) -> int:  # fmt: skip
    """Serves --generate and --interpolate for columns with names; returns the exit status.

    `decode` turns rows (n, outputs) of the saved generator into samples, (n,) or (n, columns).
    """
    generator = use_gpu(load_model(options.out / "generator.pt", latent_dim, outputs), options)
    if options.generate:
        print(",".join(names))
        random = stream("samples", options.seed)
        for start in range(0, options.generate, CHUNK):
            # Whole blocks, the last one too: randn draws the numbers of a part in another order
            rows = generator(torch.randn(CHUNK, latent_dim, generator=random))
            rows = rows[: options.generate - start]
            exact = "%r" if rows.dtype == torch.float64 else "%.9g"
            line = ",".join([exact] * len(names)) + "\n"
            print(line * len(rows) % tuple(decode(rows).flatten().tolist()), end="")
    if options.interpolate:
        save_walk(lambda noise: decode(generator(noise)), latent_dim, options, names)
    return 0


def use_gpu(model: nn.Module, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    """A model of tensors on the CPU that computes on a CUDA GPU, if that is the device."""
    device = choose_device(options.device)
    if device.type != "cuda":
        return model
    model.to(device)
    return lambda rows: model(rows.to(device)).cpu()


def save_walk(
    generate: Callable[[Tensor], Tensor], latent_dim: int, options: argparse.Namespace,
    names: Sequence[str],
) -> None:  # fmt: skip
    """Saves the picture of --interpolate; `generate` maps noise (n, latent_dim) to samples."""
    random = stream("walk", options.seed)
    samples = generate(torch.randn(2048, latent_dim, generator=random))
    path = generate(interpolate(options.interpolate, latent_dim, generator=random))
    with output_folder(options.out, sys.stderr if options.generate else None) as folder:
        save_picture(folder / "interpolation.png", plot_interpolation, samples, path, names)


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


def report(training: Any, options: argparse.Namespace) -> int:
    """Prints the outcome, shows the picture if asked to, and returns the exit status."""
    ending = ", interrupted" if training.interrupted else ""
    ending += ", diverged (lower --lr)" if training.stopping.diverged else ""
    samples, epochs = training.metrics["samples"], len(training.history)
    done = f"Trained on {samples:,} samples for {epochs} epoch{'s' * (epochs > 1)}{ending}"
    print(f"{done}, kept epoch {training.stopping.kept_epoch}.\n{training.verdict}")
    if options.show and (picture := options.out / "samples.png").exists():
        Image.open(picture).show()
    return 130 if training.interrupted else 0


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
        if isinstance(sys.stdout, io.TextIOWrapper):  # any name can be printed
            encoding = None if sys.stdout.isatty() else "utf-8"
            sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
        reason, status = "", 1
        try:
            status = main(argv)
            print(end="", flush=True)
        except OSError as error:  # standard output is full, or closed, as by `| head`
            if error.filename:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
            status = 0 if isinstance(error, BrokenPipeError) else 1
            reason = f"cannot print: {error.strerror}" if status else ""
        except Failure as error:
            reason, status = str(error), error.status
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "allocate" not in str(error):
                raise
            reason = "out of memory; lower --batch-size, or use less data"
        except KeyboardInterrupt as interrupt:
            reason, status = str(interrupt) or "interrupted, results were not saved", 130
        finally:
            with suppress(ValueError):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if reason:
            print(f"{script}: {reason}", file=sys.stderr)
        return 143 if terminated and status == 130 else status

    return wrapper
