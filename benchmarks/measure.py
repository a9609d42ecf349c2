"""What the benchmarks share: data whose distribution is known, figures, and pages of results.

F is the distance of generated points to 100,000 fresh real points, divided by the mean distance of
fresh training sets of 2,048 points to the same: at 1, the generator is as good as the data.
"""

import argparse
import datetime
import functools
import math
import multiprocessing
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))
import common  # noqa: E402 - its folder must be on the path first

README, RESULTS = ROOT / "README.md", ROOT / "benchmarks" / "results"
SAMPLES, GENERATED = 2048, 100_000

Function = Callable[[Tensor], Tensor]
Figures = dict[str, float]
Columns = dict[str, Callable[..., float]]  # figures, each with the function that finds the worst


class Shape(NamedTuple):
    """A distribution of points: how to draw n of them, and what to check others against."""

    draw: Callable[[int], Tensor]  # with torch's global random numbers
    curve: Function | None = None  # y for an x within `x_range`
    x_range: tuple[float, float] = (0.0, 0.0)
    centres: Tensor = torch.empty(0, 2)  # of clusters, with their shares and standard deviation
    shares: Tensor = torch.empty(0)
    std: float = 0.0


def curve(low: float, high: float, y: Function, x: Any = None, noise: float = 0) -> Shape:
    """Points (x(t), y(t)) with t uniform in low..high; without `x`, it is t itself."""

    def draw(n: int) -> Tensor:
        t = low + (high - low) * torch.rand(n)
        return torch.stack([x(t) if x else t, y(t) + noise * torch.randn(n)], dim=1)

    return Shape(draw, None if x or noise else y, (low, high))


def clusters(points: Sequence, std: float, weights: list[float] | None = None) -> Shape:
    """Round Gaussian clusters, equally likely or by weight."""
    centres, shares = torch.tensor(points), torch.tensor(weights or [1.0] * len(points))

    def draw(n: int) -> Tensor:
        chosen = torch.multinomial(shares, n, replacement=True)
        return centres[chosen] + std * torch.randn(n, 2)

    return Shape(draw, centres=centres, shares=shares / shares.sum(), std=std)


def scattered(count: int, ratio: int) -> Shape:
    """Clusters 8 to 30 deviations from the next, the largest `ratio` times the smallest."""
    random = torch.Generator().manual_seed(100 * count + ratio)
    centres = torch.zeros(1, 2)
    while len(centres) < count:
        near = centres[torch.randint(len(centres), (), generator=random)]
        angle, far = torch.rand(2, generator=random) * torch.tensor([2 * math.pi, 22])
        centre = near + (8 + far) * torch.stack([angle.cos(), angle.sin()])
        if (centres - centre).norm(dim=1).min() >= 8:
            centres = torch.cat([centres, centre.unsqueeze(0)])
    return clusters(centres.tolist(), 1, [ratio ** (i / (count - 1)) for i in range(count)])


def integers(values: Sequence[int], weights: Sequence[float] | None = None) -> Tensor:
    """Probabilities (100,) of integers: those of the values, equal or by weight."""
    shares = torch.zeros(100)
    shares[list(values)] = torch.tensor(weights or [1.0] * len(values), dtype=torch.float32)
    return shares / shares.sum()


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
OWN_SHAPES = ("exponential", "sine")  # the data of the scripts

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

COLUMNS: Columns = {
    **{"F": max, "excess": max, "off-curve": max, "inside": min, "coverage": min},
    **{"near": min, "lost": max, "valid": min, "present": min, "KL": max, "ratio": max},
    **{"precision": min, "row coverage": min, "warned": max, "seconds": max},
}


def training_data(name: str, seed: int = 0) -> Tensor:
    """A training set: points (2048, 2) of a shape, or one-hot rows (2048, 100) of a set."""
    torch.manual_seed(1000 + seed)
    if name in SHAPES:
        return SHAPES[name].draw(SAMPLES)
    chosen = torch.multinomial(SETS[name], SAMPLES, replacement=True)
    return common.one_hot_encode(chosen, len(SETS[name]))


@functools.cache
def truth(name: str) -> tuple[Callable[[Tensor], float], float]:
    """The distance of points (n, 2) to fresh ones, and its mean over fresh training sets."""
    torch.manual_seed(1_000_000)
    distance = functools.partial(common.sliced_wasserstein, SHAPES[name].draw(GENERATED))
    return distance, sum(distance(SHAPES[name].draw(SAMPLES)) for _ in range(20)) / 20


def evaluate(name: str, data: Tensor, generated: Tensor) -> Figures:
    """Figures of generated rows, beside the training set, against the true distribution."""
    if name in SETS:
        return evaluate_integers(SETS[name], generated)
    shape = SHAPES[name]
    distance, typical = truth(name)
    f = distance(generated) / typical
    figures = {"F": f, "excess": f - distance(data) / typical}
    if shape.curve is not None:
        x, y = generated.double().T
        low, high = shape.x_range
        error = (y - shape.curve(x)).square().mean().sqrt()
        figures["off-curve"] = (error / shape.draw(GENERATED)[:, 1].std()).item()
        figures["inside"] = ((x >= low) & (x <= high)).double().mean().item()
        counts = torch.histc(generated[:, 0], 50, low, high)
        figures["coverage"] = (counts >= len(generated) / 50 / 2).double().mean().item()
    if len(shape.centres):
        nearest = torch.cdist(generated, shape.centres).min(dim=1)
        near = nearest.values <= 4 * shape.std
        figures["near"] = near.double().mean().item()
        counts = nearest.indices[near].bincount(minlength=len(shape.centres))
        figures["lost"] = int((counts < shape.shares / 5 * len(generated)).sum())
    return figures


def evaluate_integers(due: Tensor, rows: Tensor) -> Figures:
    """Figures of generated one-hot rows (n, 100), against the true probabilities (100,)."""
    share = common.one_hot_decode(rows).bincount(minlength=len(due)) / len(rows)
    due, share = due[due > 0], share[due > 0]
    kl = (share * (share.clamp(min=1e-9) / share.sum() / due).log()).sum() / share.sum()
    present = (share >= due / 5).double().mean().item()
    return {"valid": share.sum().item(), "present": present, "KL": kl.item()}


def learn(
    script: ModuleType, name: str, seed: int, **settings: Any
) -> tuple[common.Training, Figures]:
    """Train a script on a shape or a set; gives the training, and what was measured."""
    data = training_data(name, seed)
    start = time.perf_counter()
    training = script.train(data, seed=seed, progress=False, **settings)
    seconds = time.perf_counter() - start
    generated = training.generator(torch.randn(GENERATED, script.LATENT_DIM))
    figures = evaluate(name, data, generated) | {"ratio": training.ratio}
    figures |= {"precision": training.precision, "row coverage": training.coverage}
    return training, figures | {"warned": float(not training.converged), "seconds": seconds}


def parser(about: str | None, seeds: int) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have."""
    found = argparse.ArgumentParser(description=about)
    add = found.add_argument
    add("--seeds", metavar="N", type=int, default=seeds, help="(%(default)s)")
    add("--epochs", metavar="N", dest="settings", type=lambda n: {"epochs": int(n)}, default={},
        help="of each training, for a quick trial (as in the scripts)")  # fmt: skip
    return found


def in_parallel(function: Callable, jobs: Sequence) -> Iterator:
    """function(job) of each job, in order, in one process a core."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap(function, jobs)
        pool.close()
        pool.join()  # leaving the block would kill them


def cells(runs: Sequence[Figures], columns: Columns, digits: int = 4) -> list[str]:
    """Mean / worst of each column over some runs, "" where it was not measured."""
    found = []
    for name, worst in columns.items():
        values = [run[name] for run in runs if name in run]
        mean = sum(values) / max(len(values), 1)
        found.append(f"{mean:.{digits}g} / {worst(values):.{digits}g}" if values else "")
    return found


def words(runs: Sequence[Figures], columns: Columns) -> str:
    """The same in one cell, without those that were not measured."""
    shown = zip(columns, cells(runs, columns, 3), strict=True)
    return "; ".join(f"{name} {cell}" for name, cell in shown if cell)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    return "".join(map(line, [header, ["---"] * len(header), *rows]))


def line(cells: Sequence[object]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |\n"


def source() -> str:
    """The command without its paths, the machine, the versions and the date."""
    words = ["PATH" if Path(word).exists() else word for word in sys.argv[1:]]
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])
    cpuinfo = Path("/proc/cpuinfo")  # on Linux
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    machine = f"{os.cpu_count()} cores ({(models or [platform.machine()])[0]})"
    versions = f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}"
    return f"Measured by `{command}` on {machine}, {versions}, {datetime.date.today()}.\n"


def write_blocks(path: Path, **blocks: str) -> None:
    """Replace what is between the marks `<!-- name -->` and `<!-- end of name -->`."""
    for name, block in blocks.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        replace(path, rf"(?s){start}.*{end}", start + block + end)


def write_row(path: Path, row: Sequence[str]) -> None:
    """Replace the row of a table that has the same first cell."""
    replace(path, rf"(?m)^\| {row[0]} \|.*\n", line(row))


def replace(path: Path, pattern: str, new: str) -> None:
    """Replace the only place of a pattern in a file; ValueError if it is not there once."""
    text, count = re.subn(pattern, lambda _: new, path.read_text())
    if count != 1:
        raise ValueError(f"{path.name} has {count} places for {new[:40]!r}")
    path.write_text(text)
