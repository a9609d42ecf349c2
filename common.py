"""What every `train` needs: copy this file along with the `train` that you copy.

To understand a training loop, read the sections on data, networks and training; the rest can wait.
What makes a script a command (options, files, messages) is in cli.py.
"""

import functools
import io
import math
import os
import pickle
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import matplotlib.figure
import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image  # installed with matplotlib
from torch import Tensor, nn
from tqdm import tqdm


class Failure(Exception):
    """The operation failed; the message says why and what to do, in one line."""

    status = 1  # exit status of a script


class InputError(Failure, ValueError):
    """An option or the data are invalid; the message says why, in one line."""

    status = 2


def require_count(name: str, count: int) -> None:
    """Raises InputError unless the count is an integer of at least 1."""
    if not isinstance(count, int | np.integer) or count < 1:
        raise InputError(f"{name} must be an integer of at least 1, not {count!r}")


# --- Devices and random numbers ----------------------------------------------------------------

if hasattr(os, "register_at_fork"):  # a forked process would wait for threads that it has not
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; "auto" is an accelerator if there is one, else the CPU.

    Raises InputError if there is no such device.
    """
    available = ["cpu"]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        count = torch.accelerator.device_count()
        available += [str(kind), *(f"{kind}:{i}" for i in range(count))]
    if str(name) == "auto":
        return torch.device(available[1] if len(available) > 1 else "cpu")
    if str(name) == "cpu:0":  # torch's other name of it
        return torch.device("cpu")
    if str(name) not in available:
        choices = ", ".join(["auto", *available])
        raise InputError(f"device {str(name)!r} is not available; choose from {choices}")
    return torch.device(name)


def random_generator(use: str, seed: int = 0) -> torch.Generator:
    """A generator of random numbers for one use: what others draw does not change its numbers."""
    return torch.Generator().manual_seed(zlib.crc32(f"{use} {seed}".encode()))


def isolated(train: Callable) -> Callable:
    """Decorates a `train`: it leaves torch's random state and settings as the caller has them.

    Nor does it depend on them: on a default dtype, say, or on autocast.
    """

    @functools.wraps(train)
    def wrapper(*args: Any, **settings: Any) -> Any:
        gpus = range(torch.cuda.device_count())
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            with (
                torch.random.fork_rng(gpus),
                torch.autocast("cpu", enabled=False),
                torch.autocast("cuda", enabled=False),
                torch.inference_mode(False),
                torch.enable_grad(),
            ):
                return train(*args, **settings)
        finally:
            torch.set_default_dtype(dtype)

    return wrapper


# --- One-hot codec -----------------------------------------------------------------------------


def one_hot_encode(integers: Tensor, depth: int) -> Tensor:
    """Integers (n,) from 0 to depth - 1 as one-hot rows (n, depth), float32.

    Raises InputError for others.
    """
    if integers.is_floating_point() or integers.ndim != 1:
        raise InputError("expected integers of shape (n,)")
    if ((integers < 0) | (integers >= depth)).any():
        raise InputError(f"expected integers from 0 to {depth - 1}")
    return nn.functional.one_hot(integers.long(), depth).float()


def one_hot_decode(rows: Tensor) -> Tensor:
    """The index (n,) of the largest entry of each row (n, depth)."""
    return rows.argmax(dim=1)


# --- Data --------------------------------------------------------------------------------------

LARGEST = 1e37  # absolute value of a number in the data: sums of larger ones may overflow float32
TORCH_FLOATS = (np.float16, np.float32, np.float64)
EXACT_IN_FLOAT32 = (torch.float32, torch.float16, torch.bfloat16, torch.bool)


def as_rows(data: object) -> Tensor:
    """Turns data (a tensor, an array, a DataFrame, a list of rows) into a CPU tensor (n, columns).

    Integers and float64 become float64, narrower floats float32. Raises InputError if they are not
    rows of finite numbers.
    """
    require_numeric_columns(data)
    try:
        if isinstance(data, list | tuple) and any(isinstance(row, Tensor) for row in data):
            data = torch.stack([torch.as_tensor(row).detach() for row in data])
        tensor = data if isinstance(data, Tensor) else torch.from_numpy(as_array(data))
        if tensor.is_complex():
            raise InputError("data must be real numbers, not complex ones")
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        if tensor.dtype == torch.int64 and (tensor.abs() > 2**53).any():
            raise InputError("data must be numbers; integers above 2**53 would be rounded")
        dtype = torch.float32 if tensor.dtype in EXACT_IN_FLOAT32 else torch.float64
        rows = tensor.detach().cpu().to(dtype, copy=True)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError("data must be rows of numbers, all of the same length") from None
    if rows.ndim != 2:
        raise InputError(f"data must have the shape (n, columns), not {tuple(rows.shape)}")
    if rows.numel() == 0:
        raise InputError("data must have at least one row and one column")
    wrong = rows[~(rows.abs() <= LARGEST)]  # not "> LARGEST", which is false for NaN
    if len(wrong) > 0:
        raise InputError(f"data must be finite numbers up to {LARGEST:g}, but hold {wrong[0]:g}")
    return rows


def require_numeric_columns(data: Any) -> None:
    """InputError that names the first column without numbers, if the data are a DataFrame."""
    for name in getattr(data, "columns", []):
        try:
            np.asarray(data[name], dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"data must be numbers, unlike those of column {name!r}") from None


def as_array(data: object) -> np.ndarray:
    """What numpy reads as numbers, in a type that torch has; InputError for missing ones."""
    if np.ma.is_masked(data):
        raise InputError("data must be numbers, but some are masked, so missing")
    array = np.array(data)
    if array.dtype == np.uint64 and (array > 2**53).any():
        raise InputError("data must be numbers; integers above 2**53 would be rounded")
    if array.dtype.kind in "Of" and array.dtype.newbyteorder("=") not in TORCH_FLOATS:
        return array.astype(np.float64)  # long doubles, or objects of several types
    return array.astype(array.dtype.newbyteorder("="))


def random_subset(rows: Tensor, size: int) -> Tensor:
    """At most `size` of the rows (n, ...), drawn at random: the first ones might all be alike."""
    if len(rows) <= size:
        return rows
    order = torch.randperm(len(rows), generator=random_generator("subset"))
    return rows[order[:size]]


def prepare_rows(data: object, names: Sequence[str] = ()) -> tuple[Tensor, list[str]]:
    """Data as by `as_rows`, without rows that lie far outside, and notes that say what was done.

    A typo, or -9999 for a missing number, would decide the scale of its column and hide the rest.
    """
    rows = as_rows(data)
    if len(names) != rows.shape[1]:
        names = [f"column {i + 1}" for i in range(rows.shape[1])]
    far = far_numbers(rows)
    kept = rows[~far.any(dim=1)]
    tails = LongTails(kept)
    notes = []
    for i, name in enumerate(names):
        outside = rows[far[:, i], i]
        if len(outside) > 0:
            listed = ", ".join(f"{number:g}" for number in outside.unique()[:5].tolist())
            notes.append(f"rows left out, as {name} is far from others: {len(outside)} ({listed})")
        if tails.positive[i]:
            notes.append(f"{name} has a long tail: its logarithm is learned and compared")
        if tails.both_sides[i]:
            notes.append(f"{name} has long tails: they are shortened to be learned and compared")
    return kept, notes


def far_numbers(rows: Tensor) -> Tensor:
    """Mask (n, columns) of the few numbers that lie far outside, as typos do.

    They are five times as far from the median as 99 % of their column.
    """
    numbers = LongTails(rows)(rows)
    distances = (numbers - numbers.median(dim=0).values).abs()
    radius = distances.sort(dim=0).values[math.ceil(0.99 * len(rows)) - 1]
    far = (distances > 5 * radius) & (radius > 0)
    few = far.sum(dim=0) <= max(1, 0.005 * len(rows))  # more of them are a part of the data
    return far & few


class LongTails(nn.Module):
    """Shortens the long tails of columns (n, columns), which would squeeze all the rest.

    If 1 % of a positive column are above ten times its median, the column is replaced by its
    logarithm. If another column reaches 15 times as far as its middle half, it is replaced by its
    inverse hyperbolic sine, which is linear in the middle and logarithmic outside.
    """

    positive: Tensor  # (columns,), whether the logarithm replaces it
    both_sides: Tensor  # (columns,), whether the inverse hyperbolic sine replaces it
    median: Tensor
    spread: Tensor  # of the middle half

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        places = torch.tensor([0.01, 0.25, 0.5, 0.75, 0.99]) * (len(rows) - 1)
        low, first, median, third, high = rows.sort(dim=0).values[places.round().long()]
        spread = third - first
        # A few others are left out as far rows
        nearly_positive = (rows <= 0).sum(dim=0) <= max(1, 0.005 * len(rows))
        positive = nearly_positive & (low > 0) & (high > 10 * median)
        both_sides = ~positive & (spread > 0) & (high - low > 15 * spread)
        self.any = bool((positive | both_sides).any())
        self.register_buffer("positive", positive)
        self.register_buffer("both_sides", both_sides)
        self.register_buffer("median", median)
        self.register_buffer("spread", torch.where(spread > 0, spread, 1))

    def forward(self, rows: Tensor) -> Tensor:
        if not self.any:
            return rows
        sines = ((rows - self.median) / self.spread).asinh()
        logarithms = rows.clamp(min=1e-37).log()
        shortened = torch.where(self.both_sides, sines, rows)
        return torch.where(self.positive, logarithms, shortened)

    def inverse(self, rows: Tensor) -> Tensor:
        """Turns shortened columns back."""
        if not self.any:
            return rows
        sines = rows.sinh() * self.spread + self.median
        lengthened = torch.where(self.both_sides, sines, rows)
        return torch.where(self.positive, rows.exp(), lengthened)


class Standardize(nn.Module):
    """Shifts columns (n, columns) to mean 0 and scales them to standard deviation 1, as float32.

    Long tails are shortened first. With a `limit`, a column is scaled down further if need be,
    until 99.5 % of it lie between -limit and limit: numbers far out would be learned badly.
    """

    mean: Tensor  # (columns,)
    scale: Tensor  # (columns,), 0 for constant columns

    def __init__(self, rows: Tensor, limit: float = math.inf) -> None:
        super().__init__()
        self.tails = LongTails(rows)
        rows = self.tails(rows)
        # float64, as float32 loses the variance of columns with a large mean
        scale, mean = torch.std_mean(rows.double(), dim=0, correction=0)
        if limit < math.inf:
            distances = (rows - mean).abs().sort(dim=0).values
            far = distances[math.ceil(0.995 * len(rows)) - 1]  # 99.5 % are at most as far
            scale = torch.maximum(scale, far / limit)
        constant = (rows == rows[0]).all(dim=0)  # scale might be just above 0, by rounding
        self.register_buffer("mean", torch.where(constant, rows[0], mean).to(rows.dtype))
        self.register_buffer("scale", torch.where(constant, 0, scale).to(rows.dtype))

    def forward(self, rows: Tensor) -> Tensor:
        divisor = torch.where(self.scale > 0, self.scale, 1)
        return ((self.tails(rows) - self.mean) / divisor).float()

    def inverse(self) -> nn.Module:
        """The module that turns standardised rows back."""
        return Unstandardize(self.mean, self.scale, self.tails)


class Unstandardize(nn.Module):
    """Turns standardised rows (n, columns) into the units and the type of the data."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, tails: LongTails) -> None:
        super().__init__()
        self.tails = tails
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, rows: Tensor) -> Tensor:
        # The buffers stay on the CPU, as an Apple GPU has no float64; so rows move there
        return self.tails.inverse(rows.to(self.mean) * self.scale + self.mean)


class Batches:
    """Endless batches (size, ...) of rows (n, ...), which are shuffled again after each pass."""

    def __init__(self, rows: Tensor, size: int) -> None:
        require_count("batch_size", size)
        self.rows = rows
        self.size = size
        self.order = torch.empty(0, dtype=torch.int64, device=rows.device)  # still to be used

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        while len(self.order) < self.size:
            shuffled = torch.randperm(len(self.rows), device=self.rows.device)
            self.order = torch.cat([self.order, shuffled])
        chosen = self.order[: self.size]
        self.order = self.order[self.size :]
        return self.rows[chosen]


def even_noise(size: int, columns: int, device: str | torch.device) -> Iterator[Tensor]:
    """Endless batches (size, columns) of normal noise that is spread evenly.

    Random numbers leave gaps by chance, and the discriminator would blame the generator for them.
    These are scrambled Sobol points (Owen 1998), with another scrambling after 64 batches.
    """
    require_count("batch_size", size)
    while True:
        sobol = torch.quasirandom.SobolEngine(columns, scramble=True)
        for _ in range(8):
            uniform = sobol.draw(8 * size)  # eight batches at a time, which is faster
            uniform = uniform.clamp(1e-6, 1 - 1e-6)  # 0 and 1 would become infinite
            noise = torch.special.ndtri(uniform).to(device)  # from uniform to normal
            yield from noise.split(size)


# --- Networks ----------------------------------------------------------------------------------


class FourierFeatures(nn.Module):
    """Appends sines and cosines, so that a network learns fine detail: (n, m) -> (n, 7 * m).

    The frequencies are fixed: the positional encoding of NeRF (Mildenhall et al. 2020).
    """

    def forward(self, inputs: Tensor) -> Tensor:
        phases = torch.cat([inputs, 2 * inputs, 4 * inputs], dim=1)
        return torch.cat([inputs, phases.sin(), phases.cos()], dim=1)


def fourier_mlp(inputs: int, width: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    """Fourier features, then three hidden layers: (n, inputs) -> (n, outputs).

    The activation is shared, so it must have no weights.
    """
    return nn.Sequential(
        FourierFeatures(),
        nn.Linear(7 * inputs, width),
        activation,
        nn.Linear(width, width),
        activation,
        nn.Linear(width, width),
        activation,
        nn.Linear(width, outputs),
    )


def gradient_penalty(scores: Tensor, inputs: Tensor) -> Tensor:
    """Penalty for a steep discriminator, which the generator could not follow.

    It is the mean squared norm of the gradient of scores (n, 1) with respect to inputs (n, ...). At
    real inputs it is called R1, at generated ones R2 (Mescheder et al. 2018; there with a factor
    1/2). With as many of both, it is the mean of R1 and R2.
    """
    # A score depends on its own input only, so the sum has the gradients of all of them. Their
    # graph is kept, as the penalty has a gradient itself
    (slopes,) = torch.autograd.grad(scores.sum(), inputs, create_graph=True)
    return slopes.flatten(1).square().sum(dim=1).mean()


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Updates `ema`, the exponential moving average of a model's weights and batch statistics."""
    averages = [*ema.parameters(), *ema.buffers()]
    values = [*model.parameters(), *model.buffers()]
    for average, value in zip(averages, values, strict=True):
        if average.is_floating_point():
            average.lerp_(value, 1 - decay)


def set_lr(lr: float, *optimizers: torch.optim.Optimizer) -> None:
    """Sets the learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr


# --- Distance ----------------------------------------------------------------------------------


def sliced_wasserstein(real: Tensor, samples: Tensor) -> float:
    """Sliced 2-Wasserstein distance between standardised rows (n, columns) and (m, columns).

    On a line, one sorts both and compares the numbers at equal ranks. So the rows are projected on
    64 random lines; the distance is the root of the mean squared difference (Bonneel et al. 2015).
    Samples off the real rows raise it, and so do real rows left out. Infinite samples make it
    infinite.
    """
    if not samples.isfinite().all():
        return math.inf
    lines = torch.randn(64, real.shape[1], generator=random_generator("lines"))
    lines = lines / lines.norm(dim=1, keepdim=True)
    count = max(len(real), len(samples))
    places = (np.arange(count) + 0.5) / count  # the middles of equal parts of 0..1

    def quantiles(rows: Tensor) -> np.ndarray:
        projections = np.sort((lines @ rows.T).numpy(), axis=1)
        ranks = (places * len(rows)).astype(int)  # of fewer rows, some are used repeatedly
        return projections[:, ranks]

    difference = quantiles(real) - quantiles(samples)
    return float(np.sqrt(np.square(difference, dtype=np.float64).mean()))


def fresh_distance(rows: Tensor) -> float:
    """How far n new real rows may be from these (n, columns): 19 of 20 draws are not further.

    As there are no new rows, these are split in two halves, 40 times, and the halves are compared.
    Small sets differ more than large ones: two sets as large as all rows are only 0.71 (on curves)
    to 0.84 (in clusters) times as far apart as two halves. The factor 0.8 is a compromise.
    """
    random = random_generator("halves")
    half = max(len(rows) // 2, 1)
    distances = []
    for _ in range(40):
        shuffled = rows[torch.randperm(len(rows), generator=random)]
        distances.append(sliced_wasserstein(shuffled[:half], shuffled[-half:]))
    return 0.8 * float(np.quantile(distances, 0.95))


NEAR = 0.1  # standard deviations: closer rows are near in any case


def precision_and_coverage(real: Tensor, generated: Tensor) -> tuple[float, float]:
    """Share of generated rows (m, columns) near real ones, and of real ones near generated ones.

    A real row reaches as far as its fifth nearest other one, at least NEAR; what is within its
    reach is near. This is precision (Kynkaanniemi et al. 2019) and coverage (Naeem et al. 2020).
    At most 4,096 real rows and 8,192 generated ones are compared.
    """
    real = random_subset(real, 4096)
    generated = random_subset(generated, 8192)
    near = torch.cdist(generated, real) <= reaches(torch.cdist(real, real))
    precision = near.any(dim=1).float().mean().item()
    coverage = near.any(dim=0).float().mean().item()
    return precision, coverage


def reaches(distances: Tensor) -> Tensor:
    """How far real rows (n,) reach, by the distances (n, n) between them."""
    rank = min(1 + 5, len(distances))  # each row is its own nearest one
    return distances.kthvalue(rank, dim=1).values.clamp(min=NEAR)


def fresh_precision(real: Tensor) -> float:
    """The precision that new real rows would have: the share of rows (n, columns) near others."""
    real = random_subset(real, 4096)
    distances = torch.cdist(real, real)
    near = distances <= reaches(distances)
    near.fill_diagonal_(False)
    return near.any(dim=1).float().mean().item()


def missed_detail(real: Tensor, generated: Tensor) -> float:
    """How much of the fine detail of real rows (n, columns) generated ones (m, columns) miss.

    Rows on a narrow curve are close to others on it; a row beside it is not. So distances from a
    generated row to the nearest real one are compared with those from a real row to the nearest
    other one, and then those from a real row to the nearest generated one. The result is the
    largest excess of a share of the rows that have no neighbour within some distance: 0 for none
    (statistic of Kolmogorov and Smirnov). Errors of 0.02 standard deviations a column are ignored.
    """
    real = random_subset(real, 4096)
    generated = random_subset(generated, 8192)
    ignored = 0.02 * math.sqrt(real.shape[1])
    between = torch.cdist(real, real).fill_diagonal_(math.inf)
    # As many generated rows as there are other real ones, for distances of the same kind
    others = generated[: max(len(real) - 1, 1)]
    real_to_real = between.amin(dim=1).clamp(min=ignored)
    generated_to_real = torch.cdist(generated, real).amin(dim=1).clamp(min=ignored)
    real_to_generated = torch.cdist(real, others).amin(dim=1).clamp(min=ignored)
    beside = largest_excess(real_to_real, generated_to_real)
    left_out = largest_excess(real_to_real, real_to_generated)
    return max(beside, left_out)


def largest_excess(distances: Tensor, others: Tensor) -> float:
    """By how much the share of `others` (m,) beyond some distance exceeds that of `distances`."""
    places = torch.cat([distances, others])
    within = torch.searchsorted(distances.sort().values, places, right=True) / len(distances)
    others_within = torch.searchsorted(others.sort().values, places, right=True) / len(others)
    return (within - others_within).max().item()


# --- Training ----------------------------------------------------------------------------------

MIN_GAIN = 0.5  # smallest fall of the error that is progress, as a share of the tolerance


class EarlyStopping:
    """Keeps good weights, lowers the learning rate, and says when to stop.

    Kept are the latest weights whose error is less than the lowest one plus `tolerance`: within it,
    the error cannot tell which are better. When the error has not fallen by half the tolerance for
    `patience` epochs, the learning rate begins to fall; after `cooldown` more epochs training ends.
    The rate begins to fall in time for the last of `epochs`. If `patience` is None, all are used.
    """

    def __init__(
        self, epochs: int, patience: int | None, cooldown: int = 0, tolerance: float = 0.0
    ) -> None:
        if patience is None:
            patience = epochs
        require_count("epochs", epochs)
        require_count("patience", patience)
        self.epoch = 0
        self.last_epoch = epochs
        self.patience = patience
        self.cooldown = min(cooldown, epochs // 2)  # the first half has the full learning rate
        self.tolerance = tolerance
        self.lowest_error = math.inf
        self.kept_epoch = 0
        self.weights: dict[str, Tensor] = {}
        self.gain_error = math.inf  # at the last progress
        self.gain_epoch = 0
        self.diverged = False

    def update(self, error: float, model: nn.Module) -> None:
        """Note the error after an epoch, and keep the model's weights if it is low."""
        self.epoch += 1
        self.diverged = not math.isfinite(error)
        if error < self.lowest_error + self.tolerance:
            self.weights = {name: value.clone() for name, value in model.state_dict().items()}
            self.kept_epoch = self.epoch
            self.lowest_error = min(error, self.lowest_error)
        if error < self.gain_error - MIN_GAIN * self.tolerance:
            self.gain_epoch = self.epoch
            self.gain_error = error
        if self.epoch - self.gain_epoch >= self.patience:
            self.last_epoch = min(self.last_epoch, self.epoch + self.cooldown)

    @property
    def stopped(self) -> bool:
        """Whether training should end."""
        return self.diverged or self.epoch >= self.last_epoch

    @property
    def lr_factor(self) -> float:
        """Factor on the learning rate of the next epoch: 1, and then it falls to 0.

        It is 1 minus the root of the share of the cooldown that is over (Hagele et al. 2024).
        """
        left = min(1, (self.last_epoch - self.epoch) / (self.cooldown + 1))
        return 1 - math.sqrt(1 - left)

    def load_best(self, model: nn.Module) -> nn.Module:
        """`model` with the kept weights, on the CPU, in eval mode.

        Raises KeyboardInterrupt, as Ctrl-C does, if no epoch has ended, and Failure if training
        diverged from the start.
        """
        if self.epoch == 0:
            raise KeyboardInterrupt("interrupted before an epoch ended, nothing was saved")
        if self.kept_epoch == 0:
            raise Failure("training diverged from the start, nothing was saved; lower --lr")
        model.load_state_dict(self.weights)
        return model.eval().cpu().requires_grad_(False)


class Evaluation(NamedTuple):
    """One row of the history."""

    epoch: int
    discriminator_loss: float
    generator_loss: float
    distance: float


class Check(NamedTuple):
    """One line of the verdict."""

    name: str
    passed: bool
    measured: str
    limit: str
    problem: str  # the sentences of a check that has not passed
    advice: str


class Training:
    """Measures a GAN after each epoch, keeps the best weights, and judges them at the end.

    This is what `train` returns.
    """

    generator: nn.Module  # the kept one, on the CPU, in eval mode, in the units of the data
    latent_dim: int  # how many numbers of noise it needs
    samples: Tensor  # (m, columns), or pictures (m, channels, height, width)
    distance: float  # between samples and data
    ratio: float  # distance / limit; above 1, samples are further off than new real rows would be
    precision: float  # share of the samples that are near real ones
    coverage: float  # share of the real ones that are near samples

    def __init__(
        self,
        data: Tensor,
        *,
        seed: int | None,
        epochs: int,
        patience: int | None,
        cooldown: int = 0,
        progress: bool = True,
        features: Callable[[Tensor], Tensor] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """For `data`, rows (n, columns) or pictures; seeds torch. The verdict ends with the notes.

        Without a `seed`, one is drawn; metrics["seed"] has it.

        `features` turns them into rows (n, m) that are compared: by default, standardised columns.
        Raises InputError if a setting is invalid.
        """
        if seed is None:
            seed = torch.Generator().seed() % 2**32
        if not isinstance(seed, int | np.integer):
            raise InputError(f"seed must be an integer, or None for another one, not {seed!r}")
        self.data = data
        self.progress = progress  # whether to show a bar
        self.features = features or Standardize(data)
        # The limit falls with the number of rows; for more pictures, no generator would pass yet
        self.real = self.features(random_subset(data, 5000 if data.ndim == 2 else 1000))
        self.distance_limit = fresh_distance(self.real)
        # So much the distance may vary by chance. The whole limit is too much: training may drift
        tolerance = self.distance_limit / 5
        self.stopping = EarlyStopping(epochs, patience, cooldown, tolerance)
        self.history: list[Evaluation] = []
        self.snapshots: list[Tensor] = []  # samples of each epoch, for the animation
        self.checks: list[Check] = []
        self.notes = list(notes)
        self.metrics: dict[str, Any] = {"samples": len(data), "seed": int(seed)}
        self.epochs_asked = epochs
        torch.manual_seed(random_generator("training", seed).initial_seed())

    def epochs(self) -> Iterator[int]:
        """Counts epochs from 1, with a progress bar, until early stopping ends the training."""
        total = self.stopping.last_epoch
        with tqdm(total=total, unit="epoch", leave=False, disable=not self.progress) as bar:
            while not self.stopping.stopped:
                epoch = self.stopping.epoch + 1
                yield epoch
                if self.stopping.epoch < epoch:
                    raise RuntimeError("each epoch must end with a call of training.evaluate")
                bar.set_postfix(distance=f"{self.history[-1].distance:.3f}", refresh=False)
                bar.update(epoch - bar.n)

    @property
    def lr_factor(self) -> float:
        """Factor on the learning rate of the next epoch."""
        return self.stopping.lr_factor

    @torch.no_grad()
    def evaluate(self, generator: nn.Module, noise: Tensor, d_loss: float, g_loss: float) -> None:
        """Measure the generator after an epoch, on noise (m, LATENT_DIM)."""
        samples = generator(noise).cpu()
        distance = sliced_wasserstein(self.real, self.features(samples))
        self.history.append(Evaluation(len(self.history) + 1, d_loss, g_loss, distance))
        count = max(16, 2**18 // samples[0].numel())  # about a megabyte
        self.snapshots.append(samples[:count].clone())
        finite = math.isfinite(d_loss) and math.isfinite(g_loss)  # else training has diverged
        self.stopping.update(distance if finite else math.nan, generator)

    def finish(
        self,
        generator: nn.Module,
        noise: Tensor,
        *,
        min_rows: int = 50,
        max_ratio: float = 1.0,
        min_precision: float = 0.96,
        min_coverage: float = 0.99,
        check_detail: bool = True,
    ) -> Self:
        """Load the best weights, measure them on new noise (m, LATENT_DIM), and check them.

        The verdict is good if the data have at least `min_rows` rows, the distance is at most
        `max_ratio` times its limit, enough samples are near data and the other way round, and, if
        asked for, fine detail is there.
        """
        self.generator = self.stopping.load_best(generator)
        self.samples = self.generator(noise)
        self.latent_dim = noise.shape[1]
        generated = self.features(self.samples)
        self.distance = sliced_wasserstein(self.real, generated)
        self.ratio = self.distance / max(self.distance_limit, 1e-3)  # constant data have 0
        self.precision, self.coverage = precision_and_coverage(self.real, generated)
        self.metrics["distance"] = self.distance
        self.metrics["distance_of_real_samples"] = self.distance_limit
        self.metrics["ratio"] = self.ratio
        self.metrics["precision"] = self.precision
        self.metrics["coverage"] = self.coverage

        if len(self.data) < min_rows:
            self.check(
                "size of the data",
                False,
                f"{len(self.data):,}",
                f"at least {min_rows}",
                "the data are too few to judge.",
                "Train on more data.",
            )
        self.check(
            "distance to the data",
            self.ratio <= max_ratio,
            f"{self.distance:.3f}",
            f"at most {max_ratio * max(self.distance_limit, 1e-3):.3f}",
            "the samples are further from the data than new data would be.",
        )
        # In many columns, some new real rows would not be near either
        min_precision = min(min_precision, round(fresh_precision(self.real) - 0.03, 2))
        self.check(
            "samples near data",
            self.precision >= min_precision,
            f"{self.precision:.1%}",
            f"at least {min_precision:.0%}",
            "too many samples lie where there are no data.",
        )
        self.check(
            "data near samples",
            self.coverage >= min_coverage,
            f"{self.coverage:.1%}",
            f"at least {min_coverage:.0%}",
            "parts of the data are missing.",
        )
        if check_detail:
            self.check_detail(generated)
        self.check_distinct(generated)
        return self

    def check_detail(self, generated: Tensor) -> None:
        """Check that the samples, by their features (m, columns), have the data's fine detail."""
        missed = missed_detail(self.real, generated)
        limit = round(0.2 + 7 / len(self.real), 2)  # by chance, samples of few rows miss more
        self.metrics["missed_detail"] = missed
        self.check(
            "fine detail missed",
            missed <= limit,
            f"{missed:.1%}",
            f"at most {limit:.0%}",
            "fine detail of the data is missing, as of narrow waves or a grid.",
        )

    def check_distinct(self, generated: Tensor) -> None:
        """Check that the samples, by their features (m, columns), do not repeat a few rows."""
        distinct = len(generated.round(decimals=3).unique(dim=0))
        least = 0.75 * len(self.real.round(decimals=3).unique(dim=0))
        if distinct < least:
            problem = "the generator repeats a few samples."
            self.check(
                "distinct samples", False, f"{distinct:,}", f"at least {least:,.0f}", problem
            )

    def check_missing(
        self, real: Tensor, generated: Tensor, names: Sequence[str] | None = None
    ) -> None:
        """Check that each integer (n,) of the data is generated (m,), at least a fifth as often.

        They may be indices of categories with `names`. A category that is expected less than 10
        times is left out, as chance may miss it.
        """
        depth = 1 + int(torch.cat([real, generated]).max())
        real_share = real.bincount(minlength=depth) / len(real)
        share = generated.bincount(minlength=depth) / max(len(generated), 1)
        too_rare = (share < real_share / 5) & (real_share > 0)
        if names:
            too_rare &= real_share * len(generated) >= 10
        missing: list[Any] = torch.nonzero(too_rare).flatten().tolist()
        if names:
            missing = [names[i] for i in missing]
        self.metrics["missing_values"] = missing

        kind = "categories" if names else "values"
        listed = ", ".join(map(str, missing[:10]))
        if len(missing) > 10:
            listed += ", ..."
        problem = f"{kind} are left out or too rare: {listed}."
        self.check(f"{kind} left out", not missing, f"{len(missing):,}", "none", problem)

    def check(
        self,
        name: str,
        passed: bool,
        measured: str,
        limit: str,
        problem: str,
        advice: str | None = None,
    ) -> None:
        """Add a line to the verdict; `problem` and `advice` are sentences, if it has not passed."""
        if advice is None:
            advice = self.advice()
        self.checks.append(Check(name, bool(passed), measured, limit, problem, advice))

    def advice(self) -> str:
        """What to try if the samples are not good enough."""
        if self.interrupted:
            return "Training was interrupted: let it go on to its end."
        if self.stopping.epoch < self.epochs_asked:
            return "Try another --seed, more --patience, or a lower --lr."
        return "Try more --epochs, another --seed, or a lower --lr."

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or a signal ended the training."""
        return not self.stopping.stopped

    @property
    def converged(self) -> bool:
        """Whether something was checked, and every check passed."""
        return len(self.checks) > 0 and all(check.passed for check in self.checks)

    @property
    def verdict(self) -> str:
        """The verdict: a sentence, then a line for each check, and advice if one failed."""
        good = "the samples are as close to the data as new data would be."
        return write_verdict(self.checks, good, self.notes)

    def __getstate__(self) -> bytes:
        # To another process, torch would send each tensor as an open file, of which there are few
        return pickle.dumps(self.__dict__)

    def __setstate__(self, state: bytes) -> None:
        self.__dict__.update(pickle.loads(state))

    def __repr__(self) -> str:
        return f"<{self.verdict.splitlines()[0]}>"


def write_verdict(checks: Sequence[Check], good: str, notes: Sequence[str] = ()) -> str:
    """A verdict as text: a sentence, a line for each check and each note, advice if one failed."""
    failed = [check for check in checks if not check.passed]
    first = f"Good: {good}"
    if failed or not checks:
        first = f"WARNING: {failed[0].problem if failed else 'nothing was checked.'}"
    lines = [first]
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"  {mark}  {check.name:{width}}  {check.measured:>7}  {check.limit}")
    lines += [f"  note  {note}" for note in notes]
    advice = [check.advice for check in failed]
    return "\n".join(lines + list(dict.fromkeys(advice)))


# --- Plots -------------------------------------------------------------------------------------

REAL = "#9a9a9a"
GENERATED = "#0b4f8a"  # distinguishable in greyscale
Draw = Callable[[Any, Tensor, Tensor], object]  # draws data and samples on axes of matplotlib


class Figure(matplotlib.figure.Figure):
    """A figure of matplotlib that a notebook shows, without pyplot."""

    def png(self) -> bytes:
        """The figure as a PNG file."""
        file = io.BytesIO()
        with warnings.catch_warnings(action="ignore"):  # the font may lack some characters
            self.savefig(file, format="png")
        return file.getvalue()

    _repr_png_ = png


def draw_points(
    axes: Any, data: Tensor, samples: Tensor, names: Sequence[str] = ("x", "y")
) -> None:
    """Draws generated points over real ones: the first two columns of rows (n, columns).

    The axes are those of the data; stray points may lie outside. One column is a histogram.
    """
    if data.shape[1] == 1:
        bins = np.linspace(float(data.min()), float(data.max()), 41)
        numbers = [rows.flatten().numpy() for rows in (data, samples)]
        labels = ["real", "generated"]
        axes.hist(numbers, bins, density=True, color=[REAL, GENERATED], label=labels)
        axes.set(xlabel=names[0], ylabel="density")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize="small")
        return
    real = random_subset(data, 2048)
    generated = random_subset(samples, 2048)
    axes.scatter(real[:, 0], real[:, 1], s=20, color=REAL, linewidths=0, label="real")
    axes.scatter(
        generated[:, 0], generated[:, 1], s=3, color=GENERATED, linewidths=0, label="generated"
    )
    low = data.amin(dim=0)
    high = data.amax(dim=0)
    margin = (0.07 * (high - low)).clamp(min=1e-6)
    axes.set_xlim(float(low[0] - margin[0]), float(high[0] + margin[0]))
    axes.set_ylim(float(low[1] - margin[1]), float(high[1] + margin[1]))
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize="small")


@rc_context({"text.parse_math": False})  # "$" in a name does not begin a formula
def plot(training: Training, draw: Draw = draw_points) -> Figure:
    """Plots data and samples by `draw`, and below them the losses and distances by epoch."""
    figure = Figure(figsize=(8, 8), dpi=120, layout="constrained")
    panels: Any = figure.subfigures(2, 1, height_ratios=[5, 2])
    top, bottom = panels
    draw(top.subplots(), training.data, training.samples)
    losses, distances = bottom.subplots(1, 2)
    epochs, d_losses, g_losses, measured = zip(*training.history, strict=True)
    losses.plot(epochs, d_losses, color=REAL, label="discriminator")
    losses.plot(epochs, g_losses, color=GENERATED, label="generator")
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend()
    distances.plot(epochs, measured, color=GENERATED)
    distances.axvline(training.stopping.kept_epoch, color=REAL, linestyle=":", label="kept")
    distances.set(xlabel="epoch", ylabel="distance")
    distances.legend()
    return figure


@rc_context({"text.parse_math": False})
def animate(training: Training, draw: Draw = draw_points) -> bytes:
    """A GIF of the samples by epoch, at most 60 frames, the last of which stays for two seconds."""
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    evaluations = list(zip(training.history, training.snapshots, strict=True))
    every = math.ceil(len(evaluations) / 60)
    frames = []
    evaluations = evaluations[::-every]  # from the last one, which is to be among them
    for evaluation, samples in reversed(evaluations):
        axes.clear()
        draw(axes, training.data, samples)
        title = f"epoch {evaluation.epoch}, distance {evaluation.distance:.3f}"
        axes.set_title(title, loc="left", fontsize="small")
        with warnings.catch_warnings(action="ignore"):  # the font may lack some characters
            canvas.draw()
        figure.set_layout_engine("none")  # layout is slow; once is enough
        frame = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        frames.append(frame.quantize(64, Image.Quantize.FASTOCTREE))
    file = io.BytesIO()
    durations = [200] * (len(frames) - 1) + [2000]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return file.getvalue()


def interpolate(
    steps: int, latent_dim: int, stops: int = 4, generator: torch.Generator | None = None
) -> Tensor:
    """Noise (steps, latent_dim) on the way between random points.

    Each step is a sum cos(a) * x + sin(a) * y of two normal points x and y, which is normal again,
    as the generator expects, since cos(a)**2 + sin(a)**2 = 1.
    """
    points = torch.randn(stops, latent_dim, generator=generator)
    position = torch.linspace(0, stops - 1, steps)
    before = position.floor().long().clamp(max=stops - 2)  # the point before each step
    angle = (math.pi / 2 * (position - before)).unsqueeze(1)
    return angle.cos() * points[before] + angle.sin() * points[before + 1]


@rc_context({"text.parse_math": False})
def plot_interpolation(samples: Tensor, path: Tensor, names: Sequence[str]) -> Figure:
    """Plots interpolated rows (steps, columns), light to dark, over generated ones.

    The first two columns are drawn. With one name, the numbers are plotted over the steps.
    """
    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    steps = torch.arange(len(path)) + 1
    if len(names) == 1:
        x, y = steps, path.flatten()
        axes.set(xlabel="step", ylabel=names[0])
    else:
        x, y = path[:, 0], path[:, 1]
        axes.set(xlabel=names[0], ylabel=names[1])
        axes.scatter(samples[:, 0], samples[:, 1], s=4, color=REAL, linewidths=0, label="generated")
        axes.legend()
    axes.plot(x, y, color=GENERATED, linewidth=0.5)
    dots = axes.scatter(x, y, s=40, c=steps, cmap="Blues", edgecolors=GENERATED, zorder=3)
    figure.colorbar(dots, label="step")
    return figure


# --- A training step as a CUDA graph -----------------------------------------------------------


def cuda_graph(device: torch.device, *optimizers: torch.optim.Optimizer) -> Callable:
    """Decorates a training step: on a CUDA GPU it is recorded as a CUDA graph, and replayed.

    So the GPU does not wait for Python. Arguments are tensors, with the same shapes in each call.
    Each choice of keywords has a graph. A call overwrites the tensors that the last one returned.
    """
    if device.type != "cuda":
        return lambda step: step
    return functools.partial(GraphedStep, device, optimizers)


class GraphedStep:
    """A step that is called twice, recorded at the third call, and replayed from then on."""

    def __init__(self, device: torch.device, optimizers: Sequence, step: Callable) -> None:
        self.device = device
        self.optimizers = optimizers
        self.step = step
        self.rates = [torch.zeros((), device=device) for _ in optimizers]
        self.calls: Counter[tuple] = Counter()  # by keywords
        self.graphs: dict[tuple, tuple] = {}  # by keywords: a graph, its inputs and its outputs
        self.stream = torch.cuda.Stream(device)  # the default stream cannot be recorded

    def __call__(self, *inputs: Tensor, **keywords: Any) -> Any:
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                if group["lr"] is not rate:  # a number would stay as it was when recorded
                    rate.fill_(group["lr"])
                    group.update(lr=rate, capturable=True)
        key = tuple(keywords.items())
        self.calls[key] += 1
        with torch.cuda.device(self.device):
            if self.calls[key] == 3:
                self.record(key, [tensor.clone() for tensor in inputs])
            if key in self.graphs:
                graph, graph_inputs, outputs = self.graphs[key]
                for old, new in zip(graph_inputs, inputs, strict=True):
                    old.copy_(new)
                graph.replay()
                return outputs
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                outputs = self.step(*inputs, **keywords)
            torch.cuda.current_stream().wait_stream(self.stream)
            return outputs

    def record(self, key: tuple, inputs: list[Tensor]) -> None:
        """Record the step. One that waits for the GPU, as for .item(), is called as it is."""
        graph = torch.cuda.CUDAGraph()
        try:
            with warnings.catch_warnings(action="ignore"):  # "a prototype feature"
                torch.cuda.set_sync_debug_mode("error")  # a wait would spoil the graph
            with torch.cuda.graph(graph, stream=self.stream):
                outputs = self.step(*inputs, **dict(key))
            self.graphs[key] = graph, inputs, outputs
        except RuntimeError as error:
            warnings.warn(f"not recorded as a CUDA graph, so slower: {error}", stacklevel=3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
