"""What the benchmarks share: data of known shape, fidelity, and the head of a results file.

F, the fidelity of a sample, is its distance to 100,000 fresh real points over the average distance
of fresh real samples of 2,048 to the same: 1 is as close to the truth as a typical training set.
"""

import datetime
import functools
import json
import math
import multiprocessing
import os
import platform
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
sys.path.insert(0, str(ROOT))  # before this folder, which has an images.py of its own

import common  # noqa: E402 - found through the line above, as the benchmarks are no package

SAMPLES, GENERATED = 2048, 100_000
DEPTH = 100


@dataclass(frozen=True)
class Shape:
    """Points whose truth is known: how to draw n of them, and what to check them against."""

    name: str
    draw: Callable[[int], Tensor]  # from torch's global random numbers
    curve: Callable[[Tensor], Tensor] | None = None  # y for an x within `x_range`
    x_range: tuple[float, float] = (0.0, 0.0)
    centres: Tensor | None = None  # of clusters, with their shares and deviation
    shares: Tensor | None = None
    deviation: float = 0.0


def curve(
    name: str, low: float, high: float, function: Callable[[Tensor], Tensor], noise: float = 0
) -> Shape:
    """Points (x, function(x)) with x uniform in low..high."""

    def draw(n: int) -> Tensor:
        x = low + (high - low) * torch.rand(n)
        return torch.stack([x, function(x) + noise * torch.randn(n)], dim=1)

    return Shape(name, draw, None if noise else function, (low, high))


def closed(name: str, x: Callable[[Tensor], Tensor], y: Callable[[Tensor], Tensor]) -> Shape:
    """Points (x(t), y(t)) with t uniform in 0..2 pi."""

    def draw(n: int) -> Tensor:
        t = 2 * math.pi * torch.rand(n)
        return torch.stack([x(t), y(t)], dim=1)

    return Shape(name, draw)


def clusters(
    name: str,
    centres: Iterable[tuple[float, float]],
    deviation: float,
    weights: list[float] | None = None,
) -> Shape:
    """Round Gaussian clusters, equally likely or by weight."""
    places = torch.tensor(list(centres), dtype=torch.float32)
    shares = torch.tensor(weights or [1.0] * len(places))

    def draw(n: int) -> Tensor:
        chosen = torch.multinomial(shares, n, replacement=True)
        return places[chosen] + deviation * torch.randn(n, 2)

    return Shape(name, draw, centres=places, shares=shares / shares.sum(), deviation=deviation)


def scattered(count: int, ratio: int) -> Shape:
    """Clusters 8 to 30 deviations from the next, the largest `ratio` times the smallest."""
    random = torch.Generator().manual_seed(100 * count + ratio)
    places = torch.zeros(1, 2)
    while len(places) < count:
        near = places[torch.randint(len(places), (), generator=random)]
        angle, far = torch.rand(2, generator=random) * torch.tensor([2 * math.pi, 22])
        place = near + (8 + far) * torch.stack([angle.cos(), angle.sin()])
        if (places - place).norm(dim=1).min() >= 8:
            places = torch.cat([places, place.unsqueeze(0)])
    weights = [ratio ** (i / (count - 1)) for i in range(count)]
    shares = "equal" if ratio == 1 else f"1 to {ratio}"
    return clusters(f"{count} scattered clusters, {shares}", places.tolist(), 1, weights)


RING = [(2 * math.cos(i * math.pi / 4), 2 * math.sin(i * math.pi / 4)) for i in range(8)]
GRID = [(float(i), float(j)) for i in range(-2, 3) for j in range(-2, 3)]
CORNERS = [(0.0, 0.0), (4.0, 0.0), (0.0, 4.0), (5.0, 5.0)]
TURNED_GRID = [(0.866 * x - 0.5 * y, 0.5 * x + 0.866 * y) for x, y in GRID]  # by 30 degrees

SHAPES = {
    shape.name: shape
    for shape in (
        curve("exponential", 0, 50, lambda x: 1.08**x),
        curve("sine", -5, 5, torch.sin),
        curve("steep: 1.25**x", 0, 50, lambda x: 1.25**x),
        curve("flat: 3 + x / 1000", 0, 1, lambda x: 3 + x / 1000),
        curve("five periods: sin(3x)", -5, 5, lambda x: torch.sin(3 * x)),
        curve("offset 10,000, range 1", 0, 1, lambda x: 10_000 + (x - 0.5) ** 2),
        curve("units: 1000 cos(x / 2)", -5, 5, lambda x: 1000 * torch.cos(x / 2)),
        curve("noisy sine", -5, 5, torch.sin, noise=0.2),
        closed("circle", torch.cos, torch.sin),
        closed("figure of eight", torch.sin, lambda t: torch.sin(2 * t)),
        closed("turned ellipse", lambda t: 2 * t.cos() + t.sin(), lambda t: 2 * t.cos() - t.sin()),
        closed("spiral", lambda t: t * torch.cos(2 * t), lambda t: t * torch.sin(2 * t)),
        clusters("ring of 8, deviation 0.05", RING, 0.05),
        clusters("ring of 8, deviation 0.02", RING, 0.02),
        clusters("grid of 25, deviation 0.05", GRID, 0.05),
        clusters("grid of 25, turned, deviation 0.03", TURNED_GRID, 0.03),
        clusters("4 unequal clusters", CORNERS, 0.1, [0.5, 0.3, 0.15, 0.05]),
        *(scattered(count, ratio) for ratio in (1, 20) for count in (2, 3, 5, 8)),
    )
}
CLUSTERS = [name for name in SHAPES if "scattered" in name or "unequal" in name]
OWN_SHAPES = ("exponential", "sine")  # of the scripts


# name: the allowed integers, and how often each one is due where they are not equally likely
SETS: dict[str, tuple[list[int], list[float] | None]] = {
    "20 multiples of five": (list(range(0, 100, 5)), None),
    "2 values": ([3, 77], None),
    "15 primes": ([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47], None),
    "50 even values": (list(range(0, 100, 2)), None),
    "20 values, one to four times as likely": (list(range(0, 100, 5)), [1, 2, 3, 4] * 5),
    "50 values, five of them ten times as likely": (list(range(50)), ([10] + [1] * 9) * 5),
    "9 squares, each half as likely": ([i * i for i in range(1, 10)], [0.5**i for i in range(9)]),
}
OWN_SET = "20 multiples of five"


def training_points(name: str, seed: int = 0) -> Tensor:
    """A training set (2048, 2) of a shape, for the seed."""
    torch.manual_seed(1000 + seed)
    return SHAPES[name].draw(SAMPLES)


def training_integers(name: str, seed: int = 0) -> Tensor:
    """The same of a set of integers: one-hot rows (2048, 100)."""
    torch.manual_seed(1000 + seed)
    chosen = torch.multinomial(due_shares(name), SAMPLES, replacement=True)
    return common.one_hot_encode(torch.tensor(SETS[name][0])[chosen], DEPTH)


def due_shares(name: str) -> Tensor:
    """How often each of the set's values is due, adding up to 1."""
    values, weights = SETS[name]
    shares = torch.tensor(weights or [1.0] * len(values), dtype=torch.float32)
    return shares / shares.sum()


def judge_integers(name: str, rows: Tensor) -> dict[str, float]:
    """Everything measured of generated one-hot rows (n, 100)."""
    due = due_shares(name)
    counts = common.one_hot_decode(rows).bincount(minlength=DEPTH)
    share = counts[SETS[name][0]] / len(rows)
    kl = (share * (share.clamp(min=1e-9) / share.sum() / due).log()).sum() / share.sum()
    return {
        "valid": share.sum().item(),
        "present": (share >= due / 5).double().mean().item(),
        "KL": kl.item(),
    }


@functools.cache
def truth(name: str) -> tuple[common.SlicedWasserstein, float, float]:
    """The distance to fresh points of a shape, that of fresh training sets, the std of y."""
    shape = SHAPES[name]
    torch.manual_seed(1_000_000)
    fresh = shape.draw(GENERATED)
    distance = common.SlicedWasserstein(fresh)
    typical = sum(distance(shape.draw(SAMPLES)) for _ in range(20)) / 20
    return distance, typical, fresh[:, 1].std().item()


def judge(name: str, data: Tensor, points: Tensor) -> dict[str, float]:
    """Everything measured of generated points, against the truth that training never saw."""
    shape = SHAPES[name]
    distance, typical, deviation = truth(name)
    found = {
        "F": distance(points) / typical,
        "excess": (distance(points) - distance(data)) / typical,
    }
    if shape.curve is not None:
        x, y = points.double().T
        low, high = shape.x_range
        found["off-curve"] = (y - shape.curve(x)).square().mean().sqrt().item() / deviation
        found["inside"] = ((x >= low) & (x <= high)).double().mean().item()
        due = len(points) / 50
        found["coverage"] = (
            (torch.histc(points[:, 0], 50, low, high) >= due / 2).double().mean().item()
        )
    if shape.centres is not None and shape.shares is not None:
        nearest = torch.cdist(points, shape.centres).min(dim=1)
        near = nearest.values <= 4 * shape.deviation
        found["near"] = near.double().mean().item()
        counts = nearest.indices[near].bincount(minlength=len(shape.centres))
        found["lost"] = int((counts < shape.shares / 5 * len(points)).sum())
    return found


LOWEST = (  # is the worst of these
    *("inside", "coverage", "near", "valid", "present", "precision", "row coverage"),
    *("clusters found", "correlation", "right", "rarest class", "top probability", "plain"),
    *("as asked", "least class", "recognised", "times as fast", "accuracy", "real accuracy"),
)


def mean_and_worst(found: list[dict[str, float]], key: str, digits: int = 4) -> str:
    """A cell: the mean and the worst of a figure, "" where it was not measured."""
    figures = [figures[key] for figures in found if key in figures]
    if not figures:
        return ""
    worst = min(figures) if key in LOWEST else max(figures)
    return f"{sum(figures) / len(figures):.{digits}g} / {worst:.{digits}g}"


def variant(script: str, changes: list[tuple[str, str]]) -> types.ModuleType:
    """A script as a module, with some of its text replaced; ValueError if a text is not there."""
    text = (ROOT / f"{script}.py").read_text()
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} stands {text.count(old)} times in {script}.py, not once")
        text = text.replace(old, new)
    module = types.ModuleType(script)
    exec(compile(text, f"{script}.py", "exec"), module.__dict__)
    return module


def in_parallel(function: Callable, jobs: list) -> Iterator:
    """function(job) of each job, in order, in one process a core."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap(function, jobs)


def table(header: list[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


STORE = RESULTS / "found.json"
VARIANTS = {  # of the README's table: what is shown of each
    "dcgan": ["Frechet"],
    "conditional_gan": ["as asked", "least class", "Frechet"],
    "wgan": ["clusters found", "near", "excess", "correlation"],
    "cycle_gan": ["left as it is", "to outline", "to digit", "recognised"],
    "digits_gan": ["Frechet"],
    "textbook": ["Frechet"],
}


def stored() -> dict[str, Any]:
    """What was found by name: of each seed a dictionary, and where and when it was measured."""
    return json.loads(STORE.read_text()) if STORE.exists() else {}


def store(name: str, found: list[dict[str, float]], script: str) -> None:
    """Keep what a benchmark found, so that others need not measure it again, and update README."""
    entry = {"found": found, "measured": circumstances(script)}
    STORE.write_text(json.dumps(stored() | {name: entry}, indent=1))
    lines = []
    for each, keys in VARIANTS.items():
        if each in stored():
            seeds = stored()[each]["found"]
            words = [f"{key} {mean_and_worst(seeds, key, 3)}" for key in [*keys, "seconds"]]
            lines.append([each, "; ".join(words)])
    write_into_readme("variants", table(["script", "mean / worst of its seeds"], lines))


def stored_table(names: list[str]) -> str:
    """A table of what was found under some names, and where and when each was measured."""
    rows = {name: each for name, each in stored().items() if name in names}
    keys = list(dict.fromkeys(key for each in rows.values() for key in each["found"][0]))
    lines = [
        [name, *(mean_and_worst(each["found"], key, 3) for key in keys)]
        for name, each in rows.items()
    ]
    sources = [f"{name}: {each['measured']}" for name, each in rows.items()]
    return "\n".join([table(["", *keys], lines), *sources])


def write_into_readme(name: str, text: str) -> None:
    """Put a table between the README's marks `<!-- name -->` and `<!-- end of name -->`."""
    readme = ROOT / "README.md"
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = readme.read_text().partition(start)
    _, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"README.md has no place for {name}")
    readme.write_text(before + start + text + end + after)


def circumstances(script: str) -> str:
    """By what command (but for its paths), where, with what and when a file was measured."""
    where = ["PATH" if Path(word).exists() else word for word in sys.argv[1:]]
    command = " ".join(["python", f"benchmarks/{script}", *where])
    processor = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].split(":")[1].strip() if names else processor
    return (
        f"Measured by `{command}` on {os.cpu_count()} cores ({processor}), "
        f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}, "
        f"matplotlib {matplotlib.__version__}, {datetime.date.today()}.\n"
    )
