"""How often the verdict is wrong, for samples of known quality.

python benchmarks/verdict.py     points: results/verdict.md, half an hour on 2 cores
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

GOOD = {"the truth", "blurred by 1 %", "fresh images"}
MEMORISED = {"resampled rows", "resampled images"}  # the data; the distance cannot tell
SMALL_FAULTS = {"a cluster of 2 % lost", "a class missing", "300 images repeated"}  # not counted

Draw = Callable[..., Tensor]  # gives n samples
Judged = tuple[float, float, float, float]  # ratio, precision, coverage, 1 if the verdict is wrong
Runs = dict[Any, Tensor]  # (seeds, 4), for each data, number of rows, ..., name of the samples


def judge(
    name: str, draw: Draw, data: Tensor, seed: int, features: Any = None, **limits: Any
) -> Judged:
    """How samples are judged, as if a training on rows or pictures had ended with them."""
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
        real = case[-1] in ("the truth", "fresh images")
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
    bad = {name for *_, name in runs} - GOOD - MEMORISED - SMALL_FAULTS
    warned = wrong(runs, GOOD)
    passed = wrong(runs, bad)
    memorised = wrong(runs, MEMORISED)
    return f"""\
- False WARNING: {warned.sum():.0f} of {len(warned)}, {warned.mean():.1%}
- False Good: {passed.sum():.0f} of {len(passed)}, {passed.mean():.1%}, without small faults
- False Good for the data themselves, memorised: {memorised.sum():.0f} of {len(memorised)}
"""


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
    truth = [runs[case][:, 3] for case in cases if case[-1] == "the truth"]
    least = 1 - max(judged.mean() for judged in truth)
    first_seeds = {case: judged[:seeds] for case, judged in runs.items()}
    summary = f"""\
- The truth: "Good" in at least {least:.0%} of {len(truth[0])} draws, for each number of
  rows and columns
{errors(first_seeds)}"""
    header = ["quality", "generator", *[f"{rows:,} rows" for rows in ROWS], "all"]
    measure.write_page("verdict.md", summary=summary, generators=measure.table(header, lines))


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
