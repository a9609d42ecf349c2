"""What the benchmarks share: data whose distribution is known, figures, and pages of results.

F is the distance of generated points to 100,000 fresh real points, divided by the mean distance of
fresh training sets of 2,048 points to the same: at 1, the generator is as good as the data.
"""

import argparse
import contextlib
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
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from PIL import Image
from torch import Tensor

sys.path.append(str(Path(__file__).parent.parent))  # with the scripts
import common
import multiples_of_five_gan
import sine_gan

ROOT = Path(common.__file__).parent
README, RESULTS = ROOT / "README.md", ROOT / "benchmarks" / "results"
SAMPLES, GENERATED = 2048, 100_000

Figures = dict[str, Any]  # numbers, and for a picture samples


class Truth(NamedTuple):
    """A distribution of rows."""

    draw: Callable[[int], Tensor]  # n of them, with torch's global random numbers
    compare: Callable[[Tensor], Figures] = lambda _: {}  # generated ones with the distribution
    curve: Callable[[Tensor], Tensor] | None = None  # of points: y for an x


def curve(low: float, high: float, y: Callable, x: Any = None, noise: float = 0) -> Truth:
    """Points (x(t), y(t)) with t uniform in low..high; without `x`, it is t itself."""

    def draw(n: int) -> Tensor:
        t = low + (high - low) * torch.rand(n)
        return torch.stack([x(t) if x else t, y(t) + noise * torch.randn(n)], dim=1)

    def compare(points: Tensor) -> Figures:
        error = (points[:, 1] - y(points[:, 0].double())).square().mean().sqrt()
        inside = (points[:, 0] >= low) & (points[:, 0] <= high)
        counts = torch.histc(points[:, 0], 50, low, high)
        return {
            "off-curve": (error / draw(GENERATED)[:, 1].std()).item(),
            "inside": inside.double().mean().item(),
            "coverage": (counts >= len(points) / 50 / 2).double().mean().item(),
        }

    return Truth(draw) if x or noise else Truth(draw, compare, y)


def clusters(points: Sequence, std: float, weights: list[float] | None = None) -> Truth:
    """Round Gaussian clusters, equally likely or by weight."""
    centres, shares = torch.tensor(points), torch.tensor(weights or [1.0] * len(points))

    def draw(n: int) -> Tensor:
        chosen = torch.multinomial(shares, n, replacement=True)
        return centres[chosen] + std * torch.randn(n, 2)

    def compare(points: Tensor) -> Figures:
        nearest = torch.cdist(points, centres).min(dim=1)
        near = nearest.values <= 4 * std
        counts = nearest.indices[near].bincount(minlength=len(centres))
        lost = counts < shares / shares.sum() / 5 * len(points)
        return {"near": near.double().mean().item(), "lost": int(lost.sum())}

    return Truth(draw, compare)


def scattered(count: int, ratio: int) -> Truth:
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


def integers(values: Sequence[int], weights: Sequence[float] | None = None) -> Truth:
    """One-hot rows (n, 100) of integers: the values, equally likely or by weight."""
    shares = torch.zeros(100)
    shares[list(values)] = torch.tensor(weights or [1.0] * len(values), dtype=torch.float32)
    due = shares[shares > 0] / shares.sum()

    def draw(n: int) -> Tensor:
        return common.one_hot_encode(torch.multinomial(shares, n, replacement=True), 100)

    def compare(rows: Tensor) -> Figures:
        counts = common.one_hot_decode(rows).bincount(minlength=100)
        share = counts[shares > 0] / len(rows)
        valid = share.sum()
        kl = (share * (share.clamp(min=1e-9) / valid / due).log()).sum() / valid
        present = (share >= due / 5).double().mean()
        return {"valid": valid.item(), "present": present.item(), "KL": kl.item()}

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

LOW_IS_BETTER = {"F", "excess", "off-curve", "lost", "KL", "ratio", "warned", "seconds"}
LOW_IS_BETTER |= {"Frechet", "left as it is", "to outline", "to digit", "AUC", "near-copies"}


def training_data(name: str, seed: int = 0) -> Tensor:
    """A training set: points (2048, 2) of a shape, or one-hot rows (2048, 100) of a set."""
    torch.manual_seed(1000 + seed)
    return (SHAPES | SETS)[name].draw(SAMPLES)


@functools.cache
def f_of(name: str) -> Callable[[Tensor], float]:
    """The function that gives F of points (n, 2)."""
    with torch.random.fork_rng():
        torch.manual_seed(1_000_000)
        fresh = SHAPES[name].draw(GENERATED)
        unit = common.Standardize(fresh)
        distance = functools.partial(common.sliced_wasserstein, unit(fresh))
        typical = sum(distance(unit(SHAPES[name].draw(SAMPLES))) for _ in range(20)) / 20
    return lambda points: distance(unit(points)) / typical


def evaluate(name: str, data: Tensor, generated: Tensor) -> Figures:
    """Figures of generated rows, beside the training set, against the true distribution."""
    if name in SETS:
        return SETS[name].compare(generated)
    f = f_of(name)(generated)
    return {"F": f, "excess": f - f_of(name)(data)} | SHAPES[name].compare(generated)


def near_copies(train: Tensor, test: Tensor, generated: Tensor) -> float:
    """Share of generated rows as near to a training row as the nearest 5 % of the test rows."""
    to_train = functools.partial(torch.cdist, x2=train, compute_mode="donot_use_mm_for_euclid_dist")
    due, distances = (to_train(rows).amin(dim=1) for rows in (test, generated))
    return (distances <= due.quantile(0.05)).double().mean().item()


def learn(
    name: str, seed: int, script: Any = None, changes: dict[str, Any] | None = None, **settings: Any
) -> tuple[common.Training, Figures]:
    """Train a script on a shape or a set; gives the training, and what was measured.

    Changes are names in the project or in torch, and what replaces them.
    """
    script = script or (sine_gan if name in SHAPES else multiples_of_five_gan)
    data, start = training_data(name, seed), time.perf_counter()
    with contextlib.ExitStack() as stack:
        for change in (changes or {}).items():
            stack.enter_context(mock.patch(*change))
        training = script.train(data, seed=seed, progress=False, **settings)
        seconds = time.perf_counter() - start
        generated = training.generator(torch.randn(GENERATED, script.LATENT_DIM))
        figures = evaluate(name, data, generated) | {"ratio": training.ratio, "seconds": seconds}
    figures |= {"precision": training.precision, "row coverage": training.coverage}
    figures["warned"] = float(not training.converged)
    print(script.__name__, name, seed, figures, flush=True)
    return training, figures


def parser(about: str | None, seeds: int) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have."""
    found = argparse.ArgumentParser(description=about)
    add = functools.partial(found.add_argument, metavar="N")
    add("--seeds", type=int, default=seeds, help="at most (%(default)s)")
    trial = "of each training, for a quick trial (as in the scripts)"
    add("--epochs", dest="settings", type=lambda n: {"epochs": int(n)}, default={}, help=trial)
    return found


def over_seeds(function: Callable, seeds: dict[Any, int], **settings: Any) -> dict[Any, list]:
    """What function(name, seed, **settings) gives, by name, for so many seeds of each name.

    Each core runs one of them at a time.
    """
    jobs = ((name, seed) for name, count in seeds.items() for seed in range(count))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        results = pool.map(functools.partial(function, **settings), *zip(*jobs, strict=True))
        return {name: list(itertools.islice(results, n)) for name, n in seeds.items()}


def cells(runs: Sequence[Figures], columns: Sequence[str], digits: int = 4) -> list[str]:
    """Mean / worst of each figure over some runs, "" where it was not measured."""
    found = []
    for name in columns:
        values = [run[name] for run in runs if name in run]
        mean, worst = sum(values) / max(len(values), 1), max if name in LOW_IS_BETTER else min
        found.append(f"{mean:.{digits}g} / {worst(values):.{digits}g}" if values else "")
    return found


def runs_table(
    first: str, runs: dict[str, list[Figures]], columns: Sequence[str], digits: int = 4
) -> str:
    """A table with a row for each name, and a column for each figure that was measured."""
    shown = [key for key in columns if any(key in run for each in runs.values() for run in each)]
    rows = [[name, *cells(each, shown, digits)] for name, each in runs.items()]
    return table([first, *shown], rows)


def words(runs: Sequence[Figures], columns: Sequence[str]) -> str:
    """The same in one cell, without those that were not measured."""
    shown = zip(columns, cells(runs, columns, 3), strict=True)
    return "; ".join(f"{name} {cell}" for name, cell in shown if cell)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def save_four(path: Path, pictures: Iterable[bytes]) -> None:
    """Save four PNG pictures as one, two by two."""
    whole, corners = Image.new("RGB", (1600, 1120)), itertools.product((0, 560), (0, 800))
    for picture, (top, left) in zip(pictures, corners, strict=True):
        part = Image.open(io.BytesIO(picture)).convert("RGB")
        whole.paste(part.resize((800, 560), Image.Resampling.LANCZOS), (left, top))
    whole.save(path, optimize=True)


def source() -> str:
    """The command without its paths, the machine, the versions and the date."""
    words = ["PATH" if Path(word).exists() else word for word in sys.argv[1:]]
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])
    cpuinfo = Path("/proc/cpuinfo")  # on Linux
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    machine = f"{os.cpu_count()} cores ({(models or [platform.machine()])[0]})"
    versions = f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}"
    return f"Measured by `{command}` on {machine}, {versions}, {datetime.date.today()}.\n"


def write_page(name: str, **blocks: str) -> None:
    """Replace blocks of a page of results, and the source of its figures."""
    write_blocks(RESULTS / name, source=source(), **blocks)


def write_blocks(page: Path, **blocks: str) -> None:
    """Replace what is between the marks `<!-- name -->` and `<!-- end of name -->` of a page."""
    for name, block in blocks.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        replace(page, rf"(?s){start}.*{end}", start + block + end)


def write_row(page: Path, row: Sequence[str]) -> None:
    """Replace the row of a table that has the same first cell."""
    replace(page, rf"(?m)^\| {row[0]} \|.*\n", f"| {' | '.join(row)} |\n")


def replace(page: Path, pattern: str, new: str) -> None:
    """Replace the only place of a pattern in a page; ValueError if it is not there once."""
    text, count = re.subn(pattern, lambda _: new, page.read_text())
    if count != 1:
        raise ValueError(f"{page.name} has {count} places for {new[:40]!r}")
    page.write_text(text)
