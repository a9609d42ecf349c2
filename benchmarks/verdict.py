"""How often the verdict is wrong, for generators of known quality: results/verdict.md.

python benchmarks/verdict.py     half an hour on 2 cores; needs pandas
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import measure
import pandas
import torch
from torch import Tensor, nn

import common

ROWS, COLUMNS = (200, 500, 1000, 2048, 5000), (2, 3, 5, 10)
SMALL_FAULT = "a cluster of 2 % lost"  # too small to count
SHARES = torch.tensor([0.33, 0.25, 0.15, 0.1, 0.1, 0.05, 0.02])  # of clusters
SHIFTED = SHARES + torch.tensor([-0.0625, 0.0625, 0, 0, 0, 0, 0])  # a quarter more of the second

Generator = Callable[[int], Tensor]


def curve(n: int, columns: int, gap: float = 0) -> Tensor:
    """Points (n, columns) on a curve; a share `gap` of it, near the middle, is left out."""
    t = (1 - gap) * torch.rand(n)
    t = t + gap * (t > 0.4)
    waves = [(2 * math.pi * t * (i // 2 + 1) / 2 + i % 2).sin() for i in range(columns - 1)]
    return torch.stack([10 * t, *waves], dim=1)


def clusters(n: int, columns: int, shares: Tensor = SHARES, lost: int | None = None) -> Tensor:
    """Points (n, columns) of Gaussian clusters, more than eight deviations apart."""
    random = torch.Generator().manual_seed(columns)
    centres = 1 + torch.arange(7.0) + 20 * torch.rand(columns, 7, generator=random).argsort(dim=1)
    if lost is not None:
        shares = shares.index_fill(0, torch.tensor(lost), 0)
    chosen = torch.multinomial(shares, n, replacement=True)
    return centres.T[chosen] + 0.5 * torch.randn(n, columns)


def blurred(points: Tensor, share: float) -> Tensor:
    """Points with normal noise, a share of each column's deviation."""
    return points + share * points.std(dim=0) * torch.randn_like(points)


def scattered(points: Tensor, share: float) -> Tensor:
    """Points, a share of which is moved to anywhere in the range of all."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    anywhere = low + (high - low) * torch.rand_like(points)
    return torch.where(torch.rand(len(points), 1) < share, anywhere, points)


def resampled(rows: Tensor, n: int) -> Tensor:
    """`n` of the rows, with replacement."""
    return rows[torch.randint(len(rows), (n,))]


POINTS: dict[str, Callable[..., Tensor]] = {"curve": curve, "clusters": clusters}
GOOD = ("the truth", "blurred by 1 %", "resampled rows")


def generators(points: str, draw: Callable[..., Tensor], data: Tensor) -> dict[str, Generator]:
    """By name, what generates n points, given what draws from the truth, and training rows."""
    found: dict[str, Generator] = {
        "the truth": draw,
        "blurred by 1 %": lambda n: blurred(draw(n), 0.01),
        "resampled rows": lambda n: resampled(data, n),
        "blurred by 10 %": lambda n: blurred(draw(n), 0.1),
        "5 % scattered": lambda n: scattered(draw(n), 0.05),
        "10 % scattered": lambda n: scattered(draw(n), 0.1),
        "half of the rows": lambda n: resampled(data[: len(data) // 2], n),
    }
    if points == "curve":
        found["a tenth of a curve left out"] = functools.partial(draw, gap=0.1)
        found["a twentieth of a curve left out"] = functools.partial(draw, gap=0.05)
    else:
        found["a cluster of 10 % lost"] = functools.partial(draw, lost=3)
        found["a cluster of 5 % lost"] = functools.partial(draw, lost=5)
        found[SMALL_FAULT] = functools.partial(draw, lost=6)
        found["a share off by a quarter"] = functools.partial(draw, shares=SHIFTED)
    return found


def is_wrong(case: tuple[str, int, int, str, int]) -> bool:
    """Whether a training that ends with a generator gets the wrong verdict."""
    points, rows, columns, name, seed = case
    torch.set_num_threads(1)
    torch.manual_seed(1000 * seed + rows + columns)
    draw = functools.partial(POINTS[points], columns=columns)
    data = draw(rows)
    generate = generators(points, draw, data)[name]
    settings: dict[str, Any] = {"epochs": 1, "patience": 1, "batch_size": None, "progress": False}
    training, loss = common.Training(data, seed=seed, **settings), torch.tensor(0.5)
    # In place of noise, a network that changes nothing gets the points that it is to generate
    training.evaluate(nn.Identity(), generate(1024), loss, loss)
    training.finish(nn.Identity(), generate(16384))
    return training.converged != (name in GOOD)


def main() -> None:
    """Judge, and write the results."""
    seeds = measure.parser(__doc__, seeds=5).parse_args().seeds
    cases = [
        (points, rows, columns, name, seed)
        for points, rows, columns in itertools.product(POINTS, ROWS, COLUMNS)
        for name in generators(points, POINTS[points], torch.empty(0))
        for seed in range(20 * seeds if name == "the truth" else seeds)
    ]
    verdicts = pandas.DataFrame(cases, columns=["points", "rows", "columns", "generator", "seed"])
    verdicts["wrong"] = list(measure.in_parallel(is_wrong, cases))
    verdicts["quality"] = verdicts.generator.isin(GOOD).map({True: "good", False: "bad"})
    lines = []
    for key, group in verdicts.groupby(["quality", "generator"], sort=False):
        shares = group.groupby("rows").wrong.mean()
        lines.append([*key, *map("{:.0%}".format, shares), f"{group.wrong.mean():.1%}"])
    header = ["quality", "generator", *map("{:,} rows".format, ROWS), "all"]
    counted = verdicts.query("generator != @SMALL_FAULT and seed < @seeds")
    good, bad = (counted.wrong[counted.quality == quality] for quality in ("good", "bad"))
    truth = verdicts[verdicts.generator == "the truth"]
    settings = truth.groupby(["points", "rows", "columns"]).wrong.mean()
    summary = f"""\
- The truth: "Good" in at least {1 - settings.max():.0%} of {20 * seeds} draws, for each number of
  rows and columns
- False WARNING: {good.sum()} of {len(good)}, {good.mean():.1%}
- False Good: {bad.sum()} of {len(bad)}, {bad.mean():.1%}, without {SMALL_FAULT}
"""
    path, table = measure.RESULTS / "verdict.md", measure.table(header, lines)
    measure.write_blocks(path, summary=summary, generators=table, source=measure.source())


if __name__ == "__main__":
    main()
