"""How often the verdict is wrong, for samples of known quality.

python benchmarks/verdict.py     points: results/verdict.md, an hour on 2 cores
python benchmarks/verdict.py --seeds 20 --data-dir DIR --data FOLDER ...     an hour

The second judges images, of MNIST in DIR and of folders with a folder of pictures for each class:
results/verdict_images.md.
"""

import functools
import itertools
import math
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import measure
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

import common
import images

TRUTH = {"the truth", "fresh images"}
GOOD = {*TRUTH, "blurred by 1 %"}
MEMORISED = {"resampled rows", "resampled images"}  # the data; these checks cannot tell
SMALL_FAULTS = {"a cluster of 2 % lost", "a class missing", "300 images repeated"}  # not counted

Draw = Callable[..., Tensor]  # gives n samples
Judged = tuple[float, float, float, float]  # ratio, precision, coverage, 1 if the verdict is wrong
Runs = dict[Any, Tensor]  # (seeds, 4), for each data, number of rows, ..., name of the samples


def judge(
    name: str, draw: Draw, data: Tensor, seed: int, features: Any = None, **limits: Any
) -> Judged:
    """How samples are judged, as if a training on rows or pictures had ended with them."""
    if data.ndim == 2:
        data, _ = common.prepare_rows(data)
    training = common.Training(
        data, seed=seed, epochs=1, patience=1, progress=False, features=features
    )
    # In place of noise, a network that changes nothing gets the samples
    training.evaluate(nn.Identity(), draw(1024), 0.0, 0.0)
    training.finish(nn.Identity(), draw(16384), **limits)
    wrong = float(training.converged != (name in GOOD))
    return training.ratio, training.precision, training.coverage, wrong


# --- Points ------------------------------------------------------------------------------------

ROWS = (200, 500, 1000, 2048, 5000)
COLUMNS = (2, 3, 5, 10)
SHARES = (33, 25, 15, 10, 10, 5, 2)  # of clusters, in per cent


def curve(columns: int, n: int, fault: float = 0) -> Tensor:
    """Points (n, columns) on a curve; a share of it, near the middle, is left out."""
    t = (1 - fault) * torch.rand(n)
    t = t + fault * (t > 0.4)
    point = [10 * t]
    for i in range(columns - 1):
        frequency = math.pi * (i // 2 + 1)
        phase = i % 2
        point.append((frequency * t + phase).sin())
    return torch.stack(point, dim=1)


def clusters(columns: int, n: int, fault: Sequence[float] = SHARES) -> Tensor:
    """Points (n, columns) of Gaussian clusters, more than eight deviations apart."""
    random = torch.Generator().manual_seed(columns)
    places = 20 * torch.rand(columns, 7, generator=random).argsort(dim=1)
    centres = (1 + torch.arange(7.0) + places).T
    chosen = torch.multinomial(torch.tensor(fault) / 100, n, replacement=True)
    return centres[chosen] + 0.5 * torch.randn(n, columns)


def blurred(points: Tensor, share: float) -> Tensor:
    """Points with normal noise, a share of each column's deviation."""
    return points + share * points.std(dim=0) * torch.randn_like(points)


def scattered(points: Tensor, share: float) -> Tensor:
    """Points, a share of which is moved to anywhere in the range of all."""
    low, high = points.aminmax(dim=0)
    anywhere = low + (high - low) * torch.rand_like(points)
    moved = torch.rand(len(points), 1) < share
    return torch.where(moved, anywhere, points)


GAPS = {
    "a tenth of a curve left out": 0.1,
    "a twentieth of a curve left out": 0.05,
}
OTHER_SHARES = {
    "a cluster of 10 % lost": (33, 25, 15, 0, 10, 5, 2),
    "a cluster of 5 % lost": (33, 25, 15, 10, 10, 0, 2),
    "a cluster of 2 % lost": (33, 25, 15, 10, 10, 5, 0),
    "a share off by a quarter": (26.75, 31.25, 15, 10, 10, 5, 2),
}
POINTS: dict[str, tuple[Draw, dict]] = {
    "curve": (curve, GAPS),
    "clusters": (clusters, OTHER_SHARES),
}


def generators(points: str, columns: int, data: Tensor) -> dict[str, Draw]:
    """By name, what generates n points; two repeat the data."""
    function, faults = POINTS[points]
    draw = functools.partial(function, columns)
    named: dict[str, Draw] = {
        "the truth": draw,
        "blurred by 1 %": lambda n: blurred(draw(n), 0.01),
        "resampled rows": lambda n: data[torch.randint(len(data), (n,))],
        "blurred by 10 %": lambda n: blurred(draw(n), 0.1),
        "5 % scattered": lambda n: scattered(draw(n), 0.05),
        "10 % scattered": lambda n: scattered(draw(n), 0.1),
        "half of the rows": lambda n: data[torch.randint(len(data) // 2, (n,))],
    }
    for name, fault in faults.items():
        named[name] = functools.partial(draw, fault=fault)
    return named


def judge_points(case: tuple[str, int, int, str], seed: int) -> Judged:
    """The verdict on points with so many columns, for so many rows of data."""
    points, rows, columns, name = case
    torch.set_num_threads(1)
    torch.manual_seed(1000 * seed + rows + columns)
    function, _ = POINTS[points]
    data = function(columns, rows)
    return judge(name, generators(points, columns, data)[name], data, seed)


# --- Unusual points ----------------------------------------------------------------------------


def wave(n: int, frequency: float = 1) -> Tensor:
    """Points (n, 2) on a sine."""
    x = 10 * torch.rand(n) - 5
    return torch.stack([x, (frequency * x).sin()], dim=1)


def waves_in_turn(n: int) -> Tensor:
    """Points (n, 2) on a sine and on another one above it, in turn."""
    points = wave(n)
    points[1::2, 1] += 4
    return points


def shuffled(points: Tensor) -> Tensor:
    """Points whose columns know nothing of each other."""
    columns = [column[torch.randperm(len(points))] for column in points.T]
    return torch.stack(columns, dim=1)


def with_far_rows(points: Tensor, number: float, count: int) -> Tensor:
    """Points, `count` of which have the number as y, as for a missing one."""
    points[:count, 1] = number
    return points


def exponential(n: int, base: float) -> Tensor:
    """Points (n, 2) on an exponential curve."""
    x = 50 * torch.rand(n).double()
    return torch.stack([x, base**x], dim=1)


def amounts(n: int, sigma: float) -> Tensor:
    """Two columns (n, 2) of amounts, log-normal; large ones come with large ones."""
    first, second = torch.randn(2, n)
    return (sigma * torch.stack([first, 0.8 * first + 0.6 * second], dim=1)).exp()


def moved_down(points: Tensor) -> Tensor:
    """Points with a tenth of them below zero in the last column."""
    points[:, -1] -= points[:, -1].quantile(0.1)
    return points


def rings(n: int) -> Tensor:
    """Points (n, 2) on rings with radius 1 and 1.1."""
    angle = 2 * math.pi * torch.rand(n)
    radius = 1 + 0.1 * torch.randint(2, (n,))
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def thick_ring(n: int) -> Tensor:
    """Points (n, 2) anywhere between the two rings, and a little beyond."""
    angle = 2 * math.pi * torch.rand(n)
    radius = 0.98 + 0.14 * torch.rand(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def grid(n: int) -> Tensor:
    """Points (n, 2) on a grid of 40 by 40."""
    return torch.randint(40, (n, 2)).float()


def square(n: int) -> Tensor:
    """Points (n, 2) anywhere in the square of the grid."""
    return 40 * torch.rand(n, 2) - 0.5


def normals(n: int, columns: int) -> Tensor:
    """Independent normal numbers (n, columns)."""
    return torch.randn(n, columns)


Unusual = tuple[Callable[[int], Tensor], tuple[int, ...], Draw, dict[str, Draw]]


def with_shuffled(draw: Callable[[int], Tensor], *rows: int) -> Unusual:
    """Data, numbers of rows, the truth, and columns that are independent as a fault."""
    return draw, rows, draw, {"independent columns": lambda n: shuffled(draw(n))}


def far_rows(number: float, count: int) -> Unusual:
    """A sine with some far rows, which are no part of the truth."""
    _, rows, truth, faults = with_shuffled(wave, 2000)
    return lambda n: with_far_rows(wave(n), number, count), rows, truth, faults


def below_zero(draw: Callable[[int], Tensor]) -> Unusual:
    """Numbers above zero, of which a generator makes some below."""
    data, _, truth, faults = with_shuffled(draw)
    return data, (500, 2000), truth, faults | {"a tenth below zero": lambda n: moved_down(draw(n))}


def narrower(n: int, columns: int) -> Tensor:
    """Normal numbers (n, columns), with the tails cut off."""
    return 0.8 * normals(n, columns).clamp(-1.5, 1.5)


def half_of_the_columns(n: int, columns: int) -> Tensor:
    """Normal numbers (n, columns), half of which repeat the others."""
    half = normals(n, (columns + 1) // 2)
    return half.repeat(1, 2)[:, :columns]


def many_columns(columns: int) -> Unusual:
    """Independent columns."""
    draw = functools.partial(normals, columns=columns)
    faults: dict[str, Draw] = {
        "narrower": functools.partial(narrower, columns=columns),
        "half of the columns repeated": functools.partial(half_of_the_columns, columns=columns),
    }
    return draw, (500, 2000), draw, faults


UNUSUAL: dict[str, Unusual] = {
    "two sines in turn": with_shuffled(waves_in_turn, 10_000, 40_000),
    "a sine, and a row at 10,000": far_rows(10_000, 1),
    "a sine, and 10 rows at -9999": far_rows(-9999, 10),
    "1.2**x": below_zero(functools.partial(exponential, base=1.2)),
    "2.0**x": below_zero(functools.partial(exponential, base=2.0)),
    "amounts, sigma 1.5": below_zero(functools.partial(amounts, sigma=1.5)),
    "amounts, sigma 3": below_zero(functools.partial(amounts, sigma=3)),
    "sin(5 x)": with_shuffled(functools.partial(wave, frequency=5), 500, 2000),
    "sin(7 x)": with_shuffled(functools.partial(wave, frequency=7), 500, 2000),
    "sin(10 x)": with_shuffled(functools.partial(wave, frequency=10), 500, 2000),
    "rings of radius 1 and 1.1": (rings, (500, 2000), rings, {"one thick ring": thick_ring}),
    "a grid of 40 by 40": (grid, (2000, 5000), grid, {"a square": square}),
    "3 normal columns": many_columns(3),
    "10 normal columns": many_columns(10),
}


def judge_unusual(case: tuple[str, int, str], seed: int) -> Judged:
    """The verdict on samples with that name, for so many rows of unusual data."""
    kind, rows, name = case
    torch.set_num_threads(1)
    torch.manual_seed(1000 * seed + rows)
    draw_data, _, truth, faults = UNUSUAL[kind]
    draw = truth if name == "the truth" else faults[name]
    return judge(name, draw, draw_data(rows), seed)


# --- Images ------------------------------------------------------------------------------------

PICTURE_ROWS = (500, 950)
SAMPLES = 4096
SIZE = 32  # of the pictures of a folder
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {  # of fresh pictures
    "blurred by 0.7 pixels": lambda pictures: blur(pictures, 0.7),
    "blurred by 1 pixel": lambda pictures: blur(pictures, 1.0),
    "noise of 0.05": lambda pictures: (pictures + 0.05 * torch.randn_like(pictures)).clamp(0, 1),
    "contrast of 0.9": lambda pictures: 0.9 * pictures,
    "brighter by 0.1": lambda pictures: (pictures + 0.1).clamp(max=1),
}
REPEATED = {
    "resampled images": SAMPLES,
    "100 images repeated": 100,
    "300 images repeated": 300,
}
NAMES = [
    "fresh images",
    "resampled images",
    *CHANGES,
    "half of the classes",
    "100 images repeated",
    "a class missing",
    "300 images repeated",
]


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Pictures blurred by a Gaussian of `sigma` pixels."""
    from torchvision.transforms.functional import gaussian_blur

    margin = 3
    wide = pad(pictures, [margin] * 4, mode="replicate")
    blurred = gaussian_blur(wide, 2 * margin + 1, sigma)
    return blurred[..., margin:-margin, margin:-margin]


def load(data: Path) -> images.Labelled:
    """Pictures and labels of MNIST or of a folder."""
    if data.name == "MNIST":
        return images.load_dataset("mnist", data.parent)
    return images.load_folder(data, SIZE)


def choose_samples(name: str, real: Tensor, fresh: Tensor, labels: Tensor) -> Tensor:
    """Indices of at most SAMPLES pictures, of the real or of the fresh ones (n,)."""
    if name in REPEATED:
        count = min(REPEATED[name], len(real))
        return real[torch.randint(count, (SAMPLES,))]
    classes = int(labels.max()) + 1
    missing = {"half of the classes": classes // 2, "a class missing": 1}.get(name, 0)
    order = torch.randperm(classes)
    kept = fresh[order[labels[fresh]] >= missing]
    return kept[:SAMPLES]


def judge_images(case: tuple[Path, int, str], seed: int) -> Judged:
    """The verdict on samples of that name, if `n` of the images are the data."""
    data, n, name = case
    torch.set_num_threads(1)
    torch.manual_seed(1000 * seed + n)
    pictures, labels, _ = load(data)
    real, fresh = torch.randperm(len(pictures)).tensor_split([n])
    samples = pictures[choose_samples(name, real, fresh, labels)]
    if name in CHANGES:
        samples = CHANGES[name](samples)
    real_pictures = pictures[real]
    features = images.Features(real_pictures)
    return judge(name, lambda _: samples, real_pictures, seed, features, **images.LIMITS)


# --- Results -----------------------------------------------------------------------------------


def judge_all(function: Callable, cases: Iterable[tuple], seeds: int) -> Runs:
    """Judge each case with so many seeds, and real samples with more."""
    counts = {}
    for case in cases:
        real = case[-1] in TRUTH
        counts[case] = min(100, 20 * seeds) if real else seeds
    runs = measure.over_seeds(function, counts)
    return {case: torch.tensor(judged) for case, judged in runs.items()}


def wrong(runs: Runs, names: Container[str], rows: int | None = None) -> Tensor:
    """1 for each wrong verdict on samples with such names, for so many rows, and 0 for others."""
    cases = [case for case in runs if case[-1] in names and rows in (None, case[1])]
    return torch.cat([runs[case][:, 3] for case in cases])


def quality_of(name: str) -> str:
    """What samples with that name are."""
    if name in MEMORISED:
        return "memorised"
    return "good" if name in GOOD else "bad"


def errors(runs: Runs) -> str:
    """How many verdicts on good samples, on bad ones and on memorised ones are wrong."""
    names = {name for *_, name in runs}
    lines = [
        count_wrong("False WARNING", runs, GOOD),
        count_wrong(
            "False Good, without small faults", runs, names - GOOD - MEMORISED - SMALL_FAULTS
        ),
    ]
    if names & MEMORISED:
        lines.append(count_wrong("False Good for the data themselves, memorised", runs, MEMORISED))
    return "".join(lines)


def count_wrong(kind: str, runs: Runs, names: Container[str]) -> str:
    """How many verdicts on samples with such names are wrong, as a line."""
    judged = wrong(runs, names)
    return f"- {kind}: {judged.sum():.0f} of {len(judged)}, {judged.mean():.1%}\n"


def write_points(seeds: int) -> None:
    """Judge points, and write the results."""
    cases = []
    for points, rows, columns in itertools.product(POINTS, ROWS, COLUMNS):
        for name in generators(points, columns, torch.empty(0)):
            cases.append((points, rows, columns, name))
    runs = judge_all(judge_points, cases, seeds)

    lines = []
    for name in dict.fromkeys(name for *_, name in cases):
        shares = [f"{wrong(runs, [name], rows).mean():.0%}" for rows in ROWS]
        lines.append([quality_of(name), name, *shares, f"{wrong(runs, [name]).mean():.1%}"])
    first_seeds = {case: judged[:seeds] for case, judged in runs.items()}
    summary = f"""\
- The truth: "Good" in at least {least_right(runs):.0%} of the draws, for each number of
  rows and columns
{errors(first_seeds)}"""
    header = ["quality", "generator", *[f"{rows:,} rows" for rows in ROWS], "all"]
    generated = measure.table(header, lines)
    measure.write_page(
        "verdict.md", summary=summary, generators=generated, unusual=judge_all_unusual(seeds)
    )


def judge_all_unusual(seeds: int) -> str:
    """Judge unusual points; the results as text."""
    cases = []
    for kind, (_, numbers_of_rows, _, faults) in UNUSUAL.items():
        for rows, name in itertools.product(numbers_of_rows, ["the truth", *faults]):
            cases.append((kind, rows, name))
    runs = judge_all(judge_unusual, cases, seeds)
    lines = []
    for (kind, rows, name), judged in runs.items():
        wrong_share = f"{judged[:, 3].mean():.0%}"
        lines.append([kind, rows, quality_of(name), name, len(judged), wrong_share])
    header = ["data", "rows", "quality", "generator", "draws", "wrong"]
    return f"""\
- The truth: "Good" in at least {least_right(runs):.0%} of the draws, for each kind of data
{errors(runs)}
{measure.table(header, lines)}"""


def least_right(runs: Runs) -> float:
    """The lowest share of right verdicts on the truth, of all kinds of data."""
    shares = [judged[:, 3].mean().item() for case, judged in runs.items() if case[-1] in TRUTH]
    return 1 - max(shares)


def write_images(seeds: int, sets: list[Path]) -> None:
    """Judge images, and write the results."""
    runs = judge_all(judge_images, itertools.product(sets, PICTURE_ROWS, NAMES), seeds)
    lines = []
    for (data, rows, name), judged in runs.items():
        low, middle, high = judged.quantile(torch.tensor([0.05, 0.5, 0.95]), dim=0)
        line = [
            data.name,
            rows,
            quality_of(name),
            name,
            f"{middle[0]:.2f} ({low[0]:.2f} to {high[0]:.2f})",
            f"{middle[1]:.3f}",
            f"{middle[2]:.3f}",
            f"{judged[:, 3].mean():.0%}",
        ]
        lines.append(line)
    header = [
        "data",
        "rows",
        "quality",
        "samples",
        "ratio, 5 % to 95 %",
        "precision",
        "coverage",
        "wrong",
    ]
    samples = measure.table(header, lines)
    measure.write_page("verdict_images.md", summary=errors(runs), samples=samples)


def main() -> None:
    """Judge, and write the results."""
    parser = measure.parser(__doc__, seeds=5, epochs=False)
    parser.add_argument(
        "--data-dir", metavar="DIR", type=Path, help="judge images, not points: with MNIST"
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        nargs="+",
        type=Path,
        default=[],
        help="and folders of pictures, by class",
    )
    options = parser.parse_args()
    if options.data_dir:
        write_images(options.seeds, [options.data_dir / "MNIST", *options.data])
    else:
        write_points(options.seeds)


if __name__ == "__main__":
    main()
