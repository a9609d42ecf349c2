"""What the benchmarks share: data whose distribution is known, figures, and pages of results.

F is the distance of generated points to 100,000 fresh real points, divided by the mean distance of
fresh training sets of 2,048 points to the same: at 1, the generator is as good as the data.
"""

import argparse
import datetime
import functools
import io
import itertools
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import torch
from PIL import Image
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent.parent))  # with the scripts
import common
import multiples_of_five_gan
import sine_gan

ROOT = Path(common.__file__).parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
SAMPLES = 2048  # of a training set
GENERATED = 100_000  # rows compared with the true distribution

Figures = dict[str, Any]  # numbers, and for a picture samples

# --- Data whose distribution is known ----------------------------------------------------------


def no_figures(_: Tensor) -> Figures:
    """Compares nothing."""
    return {}


class Truth(NamedTuple):
    """A distribution of rows."""

    draw: Callable[[int], Tensor]  # n of them, with torch's global random numbers
    compare: Callable[[Tensor], Figures] = no_figures  # generated rows with the distribution
    curve: Callable[[Tensor], Tensor] | None = None  # of points: y for an x


def curve(
    low: float, high: float, y: Callable, x: Callable | None = None, noise: float = 0.0
) -> Truth:
    """Points (x(t), y(t)) with t uniform in low..high; without `x`, it is t itself.

    Noise is the deviation of normal noise on y.
    """

    def draw(n: int) -> Tensor:
        t = low + (high - low) * torch.rand(n)
        return torch.stack([x(t) if x else t, y(t) + noise * torch.randn(n)], dim=1)

    def compare(points: Tensor) -> Figures:
        error = (points[:, 1] - y(points[:, 0].double())).square().mean().sqrt()
        inside = (points[:, 0] >= low) & (points[:, 0] <= high)
        counts = torch.histc(points[:, 0], 50, low, high)
        half_of_expected = 0.5 * len(points) / 50
        filled = counts >= half_of_expected
        return {
            "off-curve": (error / draw(GENERATED)[:, 1].std()).item(),
            "inside": inside.double().mean().item(),
            "coverage": filled.double().mean().item(),
        }

    if x or noise:
        return Truth(draw)
    return Truth(draw, compare, y)


def clusters(points: Sequence, std: float, weights: Sequence[float] | None = None) -> Truth:
    """Round Gaussian clusters, equally likely or by weight."""
    centres = torch.tensor(points)
    weight = torch.tensor(weights or [1.0] * len(points))

    def draw(n: int) -> Tensor:
        chosen = torch.multinomial(weight, n, replacement=True)
        return centres[chosen] + std * torch.randn(n, 2)

    def compare(rows: Tensor) -> Figures:
        nearest = torch.cdist(rows, centres).min(dim=1)
        near = nearest.values <= 4 * std
        counts = nearest.indices[near].bincount(minlength=len(centres))
        expected = len(rows) * weight / weight.sum()
        lost = counts < expected / 5
        return {"near": near.double().mean().item(), "lost": int(lost.sum())}

    return Truth(draw, compare)


def scattered(count: int, ratio: int) -> Truth:
    """Clusters 8 to 30 deviations from the next, the largest `ratio` times the smallest."""
    random = torch.Generator().manual_seed(100 * count + ratio)
    centres = torch.zeros(1, 2)
    while len(centres) < count:
        neighbour = centres[torch.randint(len(centres), (), generator=random)]
        angle, far = torch.rand(2, generator=random) * torch.tensor([2 * math.pi, 22])
        centre = neighbour + (8 + far) * torch.stack([angle.cos(), angle.sin()])
        if (centres - centre).norm(dim=1).min() >= 8:
            centres = torch.cat([centres, centre.unsqueeze(0)])
    weights = [ratio ** (i / (count - 1)) for i in range(count)]
    return clusters(centres.tolist(), 1, weights)


def integers(values: Sequence[int], weights: Sequence[float] | None = None) -> Truth:
    """One-hot rows (n, 100) of integers: the values, equally likely or by weight."""
    weight = torch.zeros(100)
    weight[list(values)] = torch.tensor(weights or [1.0] * len(values), dtype=torch.float32)
    allowed = weight > 0
    real_share = weight[allowed] / weight.sum()

    def draw(n: int) -> Tensor:
        return common.one_hot_encode(torch.multinomial(weight, n, replacement=True), 100)

    def compare(rows: Tensor) -> Figures:
        counts = common.one_hot_decode(rows).bincount(minlength=100)
        share = counts[allowed] / len(rows)
        valid = share.sum()
        log_ratio = (share.clamp(min=1e-9) / valid / real_share).log()
        present = share >= real_share / 5
        return {
            "valid": valid.item(),
            "present": present.double().mean().item(),
            "KL": ((share * log_ratio).sum() / valid).item(),
        }

    return Truth(draw, compare)


TURN = 2 * math.pi
RING = [(2 * math.cos(i * TURN / 8), 2 * math.sin(i * TURN / 8)) for i in range(8)]
GRID = [(float(i), float(j)) for i in range(-2, 3) for j in range(-2, 3)]
TURNED_GRID = [(0.866 * x - 0.5 * y, 0.5 * x + 0.866 * y) for x, y in GRID]  # by 30 degrees
CORNERS = [(0.0, 0.0), (4.0, 0.0), (0.0, 4.0), (5.0, 5.0)]
SHAPES = {
    "exponential": curve(0, 50, lambda x: 1.08**x),
    "sine": curve(-5, 5, torch.sin),
    "steep: 1.25**x": curve(0, 50, lambda x: 1.25**x),
    "flat: 3 + x / 1000": curve(0, 1, lambda x: 3 + x / 1000),
    "five periods: sin(3x)": curve(-5, 5, lambda x: torch.sin(3 * x)),
    "offset 10,000, range 1": curve(0, 1, lambda x: 10_000 + (x - 0.5) ** 2),
    "units: 1000 cos(x / 2)": curve(-5, 5, lambda x: 1000 * torch.cos(x / 2)),
    "noisy sine": curve(-5, 5, torch.sin, noise=0.2),
    "circle": curve(0, TURN, torch.sin, torch.cos),
    "figure of eight": curve(0, TURN, lambda t: torch.sin(2 * t), torch.sin),
    "turned ellipse": curve(
        0, TURN, lambda t: 2 * t.cos() - t.sin(), lambda t: 2 * t.cos() + t.sin()
    ),
    "spiral": curve(0, TURN, lambda t: t * torch.sin(2 * t), lambda t: t * torch.cos(2 * t)),
    "ring of 8, deviation 0.05": clusters(RING, 0.05),
    "ring of 8, deviation 0.02": clusters(RING, 0.02),
    "grid of 25, deviation 0.05": clusters(GRID, 0.05),
    "grid of 25, turned, deviation 0.03": clusters(TURNED_GRID, 0.03),
    "4 unequal clusters": clusters(CORNERS, 0.1, [0.5, 0.3, 0.15, 0.05]),
    **{f"{n} scattered clusters, equal": scattered(n, 1) for n in (2, 3, 5, 8)},
    **{f"{n} scattered clusters, 1 to 20": scattered(n, 20) for n in (2, 3, 5, 8)},
}
CLUSTERS = [name for name in SHAPES if "scattered" in name or "unequal" in name]
OWN_SHAPES = ["exponential", "sine"]  # the data of the scripts

SQUARES = [i * i for i in range(1, 10)]
PRIMES = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47]
SETS = {
    "20 multiples of five": integers(range(0, 100, 5)),
    "2 values": integers([3, 77]),
    "15 primes": integers(PRIMES),
    "50 even values": integers(range(0, 100, 2)),
    "20 values, one to four times as likely": integers(range(0, 100, 5), [1, 2, 3, 4] * 5),
    "50 values, five of them ten times as likely": integers(range(50), ([10] + [1] * 9) * 5),
    "9 squares, each half as likely": integers(SQUARES, [0.5**i for i in range(9)]),
}
OWN_SET = "20 multiples of five"


def training_data(name: str, seed: int = 0) -> Tensor:
    """A training set: points (2048, 2) of a shape, or one-hot rows (2048, 100) of a set."""
    torch.manual_seed(1000 + seed)
    return (SHAPES | SETS)[name].draw(SAMPLES)


# --- Figures -----------------------------------------------------------------------------------


class Reference(NamedTuple):
    """What F compares points with."""

    standardize: common.Standardize
    real: Tensor  # standardised fresh points (100000, 2)
    typical: float  # mean distance of fresh training sets to these


@functools.cache
def reference(name: str) -> Reference:
    """The reference of a shape."""
    with torch.random.fork_rng():
        torch.manual_seed(1_000_000)
        fresh = SHAPES[name].draw(GENERATED)
        sets = [SHAPES[name].draw(SAMPLES) for _ in range(20)]
    standardize = common.Standardize(fresh)
    real = standardize(fresh)
    typical = fmean(common.sliced_wasserstein(real, standardize(points)) for points in sets)
    return Reference(standardize, real, typical)


def f_of(name: str, points: Tensor) -> float:
    """F of points (n, 2) of a shape."""
    standardize, real, typical = reference(name)
    return common.sliced_wasserstein(real, standardize(points)) / typical


def evaluate(name: str, data: Tensor, generated: Tensor) -> Figures:
    """Figures of generated rows, beside the training set, against the true distribution."""
    if name in SETS:
        return SETS[name].compare(generated)
    f = f_of(name, generated)
    return {"F": f, "excess": f - f_of(name, data)} | SHAPES[name].compare(generated)


def near_copies(train: Tensor, test: Tensor, generated: Tensor) -> float:
    """Share of generated rows as near to a training row as the nearest 5 % of the test rows."""
    exact = "donot_use_mm_for_euclid_dist"
    test_distance = torch.cdist(test, train, compute_mode=exact).amin(dim=1)
    distance = torch.cdist(generated, train, compute_mode=exact).amin(dim=1)
    return (distance <= test_distance.quantile(0.05)).double().mean().item()


def script_for(name: str) -> ModuleType:
    """The script that learns a shape or a set."""
    return sine_gan if name in SHAPES else multiples_of_five_gan


def learn(
    name: str, seed: int, script: Any = None, **settings: Any
) -> tuple[common.Training, Figures]:
    """Train a script on a shape or a set; gives the training, and what was measured.

    A script is a module, or anything else with a `train` and a LATENT_DIM.
    """
    script = script or script_for(name)
    torch.set_num_threads(1)  # as the scripts do
    data = training_data(name, seed)
    start = time.perf_counter()
    training = script.train(data, seed=seed, progress=False, **settings)
    seconds = time.perf_counter() - start
    generated = training.generator(torch.randn(GENERATED, script.LATENT_DIM))
    figures = evaluate(name, data, generated) | {
        "ratio": training.ratio,
        "seconds": seconds,
        "precision": training.precision,
        "row coverage": training.coverage,
        "warned": float(not training.converged),
    }
    return training, figures


@contextmanager
def after_each_epoch(watch: Callable[[nn.Module], None]) -> Iterator[None]:
    """While this lasts, `watch` is called with the generator after each evaluation."""
    evaluate_as_before = common.Training.evaluate

    def evaluate_and_watch(
        training: common.Training, generator: nn.Module, *inputs: Any, **keywords: Any
    ) -> None:
        evaluate_as_before(training, generator, *inputs, **keywords)
        watch(generator)

    with mock.patch.object(common.Training, "evaluate", evaluate_and_watch):
        yield


# --- Runs --------------------------------------------------------------------------------------


def parser(
    about: str | None, seeds: int | None = None, epochs: bool = True
) -> argparse.ArgumentParser:
    """A parser with the options that most benchmarks have: --seeds, with a default, and --epochs.

    The latter becomes `settings` of each training.
    """
    options = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if seeds:
        options.add_argument(
            "--seeds", metavar="N", type=int, default=seeds, help="at most (%(default)s)"
        )
    if epochs:
        options.add_argument(
            "--epochs",
            metavar="N",
            dest="settings",
            type=lambda count: {"epochs": int(count)},
            default={},
            help="of each training, for a quick trial (as in the scripts)",
        )
    return options


def over_seeds(function: Callable, seeds: dict[Any, int], **settings: Any) -> dict[Any, list]:
    """What function(name, seed, **settings) gives, by name, for so many seeds of each name.

    Each core runs one of them at a time.
    """
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        jobs = {
            name: [pool.submit(function, name, seed, **settings) for seed in range(count)]
            for name, count in seeds.items()
        }
        return {name: [job.result() for job in started] for name, started in jobs.items()}


# --- Pages of results --------------------------------------------------------------------------


def values_of(runs: Iterable[Figures], name: str) -> list[float]:
    """A figure in the runs that have it."""
    return [run[name] for run in runs if name in run]


def mean(runs: Iterable[Figures], name: str) -> float:
    """The mean of a figure over the runs that have it."""
    return fmean(values_of(runs, name))


def rounded(values: list[float], summary: Callable[[list[float]], float] = fmean) -> str:
    """The summary of values, as their mean or maximum, as text; of none, nothing."""
    return f"{summary(values):.3g}" if values else ""


def cells(runs: Sequence[Figures], columns: Sequence[str], largest: Sequence[str] = ()) -> list:
    """The mean of each figure; and after it, of those in `largest`, the largest."""
    row = []
    for name in columns:
        values = values_of(runs, name)
        row.append(rounded(values))
        if name in largest:
            row.append(rounded(values, max))
    return row


def heads(columns: Sequence[str], largest: Sequence[str] = ()) -> list[str]:
    """What stands above `cells`."""
    row = []
    for name in columns:
        row.append(name)
        if name in largest:
            row.append(f"worst {name}")
    return row


def count_seeds(runs: Sequence[Figures]) -> str:
    """The number of seeds, in words."""
    return "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"


def measured_columns(runs: Iterable[Sequence[Figures]], columns: Sequence[str]) -> list[str]:
    """The columns that at least one of the runs has."""
    names: set[str] = set()
    for run in itertools.chain.from_iterable(runs):
        names.update(run)
    return [name for name in columns if name in names]


def runs_table(
    first: str,
    runs: dict[str, list[Figures]],
    columns: Sequence[str],
    largest: Sequence[str] = (),
) -> str:
    """A table with a row for each name, and a column for each figure that was measured."""
    shown = measured_columns(runs.values(), columns)
    rows = [[name, len(seeds), *cells(seeds, shown, largest)] for name, seeds in runs.items()]
    return table([first, "seeds", *heads(shown, largest)], rows)


def comparison(runs: dict[str, list[Figures]], ideals: dict[str, float]) -> str:
    """A table of means by method; of each figure, the one nearest to the ideal is bold."""
    rows = {method: [method] for method in runs}
    for name, ideal in ideals.items():
        values = {method: values_of(seeds, name) for method, seeds in runs.items()}
        errors = {method: abs(fmean(of) - ideal) for method, of in values.items() if of}
        best = min(errors.values())
        for method, row in rows.items():
            cell = rounded(values[method])
            row.append(f"**{cell}**" if errors.get(method) == best else cell)
    return table(["", *ideals], rows.values())


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def save_four(path: Path, pictures: Sequence[bytes]) -> None:
    """Save four PNG pictures of the same shape as one, two by two."""
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    width = 800
    height = width * opened[0].height // opened[0].width
    whole = Image.new("RGB", (2 * width, 2 * height))
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    for picture, corner in zip(opened, corners, strict=True):
        whole.paste(picture.resize((width, height), Image.Resampling.LANCZOS), corner)
    whole.save(path, optimize=True)


def command() -> str:
    """The command that runs, without its paths."""
    options = ["PATH" if Path(option).exists() else option for option in sys.argv[1:]]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *options])


def machine() -> str:
    """The number and the name of the cores, and the versions."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")  # on Linux
    if cpuinfo.exists():
        names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text())
        model = names[0] if names else model
    torch_version = torch.__version__.split("+")[0]
    versions = f"Python {platform.python_version()}, torch {torch_version}"
    return f"{os.cpu_count()} cores ({model}), {versions}"


def source() -> str:
    """The command, the machine, the versions and the date."""
    return f"Measured by `{command()}` on {machine()}, {datetime.date.today()}.\n"


def write_page(name: str, **blocks: str) -> None:
    """Replace blocks of a page of results, and the source of its figures."""
    write_blocks(RESULTS / name, source=source(), **blocks)


def write_blocks(page: Path, **blocks: str) -> None:
    """Replace what is between the marks `<!-- name -->` and `<!-- end of name -->` of a page."""
    for name, block in blocks.items():
        start = f"<!-- {name} -->\n"
        end = f"<!-- end of {name} -->\n"
        replace(page, rf"(?s){start}.*{end}", start + block + end)


def require_row(page: Path, name: str) -> None:
    """ValueError, before a long measurement, if `write_row` would find no row of that name."""
    if f"\n| {name} |" not in page.read_text():
        raise ValueError(f"{page.name} has no row {name!r}")


def write_row(page: Path, row: Sequence[str]) -> None:
    """Replace the row of a page's table that has the same first cell."""
    replace(page, rf"(?m)^\| {re.escape(row[0])} \|.*\n", f"| {' | '.join(row)} |\n")


def write_script(script: str, seconds: float, result: str) -> None:
    """Replace the last two cells of a script's row in README."""
    start = rf"(?m)(?<=^\| `{script}\.py` \|)([^|]*)\|.*\n"
    found = re.search(start, README.read_text())
    if found is None:
        raise ValueError(f"README has no row of {script}.py")
    replace(README, start, f"{found[1]}| {seconds:.0f} | {result} |\n")


def replace(page: Path, pattern: str, new: str) -> None:
    """Replace the only place of a pattern in a page; ValueError if it is not there once."""
    text, count = re.subn(pattern, lambda _: new, page.read_text())
    if count != 1:
        raise ValueError(f"{page.name} has {count} places for {new[:40]!r}")
    page.write_text(text)
