"""How often the verdict is wrong, of generators of known quality: results/verdict.md.

python benchmarks/verdict.py     half an hour on 2 cores
"""

import argparse
import itertools
import math
from collections import Counter
from collections.abc import Callable

import measure
import torch
from measure import RESULTS
from torch import Tensor, nn

import common

ROWS, COLUMNS = (200, 500, 1000, 2048, 5000), (2, 3, 5, 10)
SMALLER = ("a cluster of 2 % lost",)  # faults, not counted
SHARES = torch.tensor([0.33, 0.25, 0.15, 0.1, 0.1, 0.05, 0.02])  # of clusters


def curve(n: int, columns: int, gap: float = 0) -> Tensor:
    """Points (n, columns) on a curve; `gap` is the share of it, in its midst, that is left out."""
    t = (1 - gap) * torch.rand(n)
    t = t + gap * (t > 0.4)
    waves = [(2 * math.pi * t * (i // 2 + 1) / 2 + i % 2).sin() for i in range(columns - 1)]
    return torch.stack([10 * t, *waves], dim=1)


def clusters(n: int, columns: int, shares: Tensor = SHARES) -> Tensor:
    """Points (n, columns) of Gaussian clusters, more than eight deviations apart."""
    random = torch.Generator().manual_seed(columns)
    places = 1 + torch.arange(7.0) + 20 * torch.rand(columns, 7, generator=random).argsort(dim=1)
    chosen = torch.multinomial(shares, n, replacement=True)
    return places.T[chosen] + 0.5 * torch.randn(n, columns)


def without(*lost: int) -> Tensor:
    """The shares, but for those of some clusters."""
    return SHARES.index_fill(0, torch.tensor(lost), 0)


def thick(points: Tensor, share: float) -> Tensor:
    """Points with normal noise, of a share of each column's deviation."""
    return points + share * points.std(dim=0) * torch.randn_like(points)


def astray(points: Tensor, share: float) -> Tensor:
    """Points, a share of which lie anywhere in the range of all."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    anywhere = low + (high - low) * torch.rand_like(points)
    return torch.where(torch.rand(len(points), 1) < share, anywhere, points)


def drawn_from(rows: Tensor, n: int) -> Tensor:
    """`n` of the rows, each as likely."""
    return rows[torch.randint(len(rows), (n,))]


Kind = Callable[[int, Tensor], Tensor]  # of n points, by the rows that were learned
OFF = SHARES + torch.tensor([-0.0625, 0.0625, 0, 0, 0, 0, 0])  # a quarter more of the second


def kinds(draw: Callable[..., Tensor], columns: int) -> dict[str, tuple[bool, Kind]]:
    """Generators by name: whether they are good, and what they generate."""
    found: dict[str, tuple[bool, Kind]] = {
        "the truth": (True, lambda n, _: draw(n, columns)),
        "1 % thick": (True, lambda n, _: thick(draw(n, columns), 0.01)),
        "the rows drawn again": (True, lambda n, rows: drawn_from(rows, n)),
        "blurred by 10 %": (False, lambda n, _: thick(draw(n, columns), 0.1)),
        "5 % astray": (False, lambda n, _: astray(draw(n, columns), 0.05)),
        "10 % astray": (False, lambda n, _: astray(draw(n, columns), 0.1)),
        "half of the rows": (False, lambda n, rows: drawn_from(rows[: len(rows) // 2], n)),
    }
    if draw is curve:
        found["a tenth of a curve left out"] = False, lambda n, _: draw(n, columns, 0.1)
        found["a twentieth of a curve left out"] = False, lambda n, _: draw(n, columns, 0.05)
        return found
    for name, shares in {
        "a cluster of 10 % lost": without(3),
        "a cluster of 5 % lost": without(5),
        "a cluster of 2 % lost": without(6),
        "a share off by a quarter": OFF,
    }.items():
        found[name] = False, lambda n, _, s=shares: draw(n, columns, s)
    return found


class Known(nn.Module):
    """A generator of known quality: as many points as there are latents."""

    def __init__(self, generate: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.generate = generate

    def forward(self, latents: Tensor) -> Tensor:
        return self.generate(len(latents))


Found = list[tuple[str, bool, bool]]  # each generator's name, whether it is good, and called so
Limits = tuple[float, list[float]]  # of the distance, and the distances that fresh rows have


def train(data: Tensor, generate: Callable[[int], Tensor], seed: int) -> common.Training:
    """A training that ends with a generator of known quality."""
    training = common.Training(
        data, seed=seed, epochs=1, patience=1, batch_size=None, progress=False
    )
    model = Known(generate)
    training.evaluate(model, torch.randn(1024, 2), torch.tensor(0.5), torch.tensor(0.5))
    return training.finish(model, torch.randn(16384, 2))


def judge(job: tuple[str, int, int, int, bool]) -> tuple[Found, Limits]:
    """Verdicts on each kind of generator, or on the truth alone, for one data set."""
    name, rows, columns, seed, all_kinds = job
    torch.set_num_threads(1)
    draw = {"curve": curve, "clusters": clusters}[name]
    found: Found = []
    limits: Limits = (0.0, [])
    for kind, (good, generate) in kinds(draw, columns).items():
        if kind != "the truth" and not all_kinds:
            continue
        torch.manual_seed(1000 * seed + rows + columns)
        data = draw(rows, columns)
        training = train(data, lambda n, data=data, generate=generate: generate(n, data), seed)
        found.append((kind, good, training.converged))
        if kind == "the truth":
            fresh = [training.measure(draw(rows, columns)) for _ in range(3)]
            limits = training.real_distance, fresh
    return found, limits


def main() -> None:
    """Judge, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="data sets of each kind (5)")
    parser.add_argument("--draws", type=int, default=100, help="and of the truth alone (100)")
    options = parser.parse_args()
    sets = list(itertools.product(("curve", "clusters"), ROWS, COLUMNS))
    jobs = [(*each, i, i < options.seeds) for each in sets for i in range(options.draws)]
    wrong: dict[str, Counter[int]] = {}
    judged: dict[str, Counter[int]] = {}
    is_good = {}
    truth: dict[tuple, list[bool]] = {each: [] for each in sets}
    limits: dict[tuple, list[Limits]] = {each: [] for each in sets}
    for job, (found, limit) in zip(jobs, measure.in_parallel(judge, jobs), strict=True):
        truth[job[:3]].append(found[0][2])
        limits[job[:3]].append(limit)
        for kind, good, called_good in found if job[4] else []:
            is_good[kind] = good
            judged.setdefault(kind, Counter())[job[1]] += 1
            wrong.setdefault(kind, Counter())[job[1]] += good != called_good
    table = []
    errors = {True: Counter[str](), False: Counter[str]()}
    for kind, counts in judged.items():
        cells = [f"{wrong[kind][rows] / counts[rows]:.0%}" for rows in ROWS]
        share = wrong[kind].total() / counts.total()
        table.append(["good" if is_good[kind] else "bad", kind, *cells, f"{share:.1%}"])
        if kind not in SMALLER:
            errors[is_good[kind]].update(wrong=wrong[kind].total(), all=counts.total())
    summary = [
        f"{called}: {each['wrong']} of {each['all']}, {each['wrong'] / each['all']:.1%}"
        for called, each in (("False WARNING", errors[True]), ("False Good", errors[False]))
    ]
    good, ratios = [], []
    for each in sets:
        fresh = torch.tensor([distance for _, some in limits[each] for distance in some])
        ratios.append([limit / fresh.quantile(0.95).item() for limit, _ in limits[each]])
        good.append(sum(truth[each]) / len(truth[each]))
    means = [sum(some) / len(some) for some in ratios]
    truths = [
        [name, f"{columns}"] + [f"{good[sets.index((name, n, columns))]:.0%}, " for n in ROWS]
        for name in ("curve", "clusters")
        for columns in COLUMNS
    ]
    for line in truths:
        for i, n in enumerate(ROWS):
            line[2 + i] += f"{means[sets.index((line[0], n, int(line[1])))]:.2f}"
    sizes = [f"{n:,} rows" for n in ROWS]
    text = f"""# How often the verdict is wrong

Generators of known quality, on points with {", ".join(map(str, COLUMNS))} columns, {options.seeds}
data sets each: the share of wrong verdicts, "WARNING" for good ones and "Good" for bad ones. A
share off by a quarter moves 6 % of the points.

- {summary[0]}
- {summary[1]}, without faults below 5 % ({", ".join(SMALLER)})

{measure.table(["", "generator", *sizes, "all"], table)}
The truth itself as a generator, {options.draws} data sets each: the share called "Good", and the
limit of the distance over the 95th percentile of the distances that as many fresh points have.
"Good": {min(good):.0%} at least, {sum(good) / len(good):.1%} on average. The limit:
{min(means):.2f} to {max(means):.2f} of that percentile, {sum(means) / len(means):.2f} on average.

{measure.table(["points", "columns", *sizes], truths)}
{measure.circumstances("verdict.py")}"""
    (RESULTS / "verdict.md").write_text(text)


if __name__ == "__main__":
    main()
