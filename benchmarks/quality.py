"""How good the generators are, beside the textbook's loop: results/quality.md and quality.png.

python benchmarks/quality.py     over 20 seeds, 20 minutes on 2 cores
"""

import argparse
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.figure
import measure
import textbook
import torch
from measure import CLUSTERS, GENERATED, OWN_SET, OWN_SHAPES, RESULTS, SAMPLES, SETS, SHAPES

import multiples_of_five_gan
import sine_gan

OTHER_SHAPES = [name for name in SHAPES if name not in (*OWN_SHAPES, *CLUSTERS)]
OTHER_SETS = [name for name in SETS if name != OWN_SET]


def learn_points(job: tuple[str, int]) -> dict[str, float]:
    """Train on a shape, and judge the generator against the truth that training never saw."""
    name, seed = job
    data = measure.training_points(name, seed)
    start = time.perf_counter()
    training = sine_gan.train(data, seed=seed, progress=False)
    seconds = time.perf_counter() - start
    points = training.generator(torch.randn(GENERATED, sine_gan.LATENT_DIM))
    told = {"ratio": training.ratio, "precision": training.precision}
    told["row coverage"] = training.coverage  # Naeem et al. 2020
    warned = {"warned": float(not training.converged)}
    return measure.judge(name, data, points) | told | warned | {"seconds": seconds}


def learn_integers(job: tuple[str, int]) -> dict[str, float]:
    """The same for a set of integers."""
    name, seed = job
    data = measure.training_integers(name, seed)
    start = time.perf_counter()
    training = multiples_of_five_gan.train(data, seed=seed, progress=False)
    seconds = time.perf_counter() - start
    latents = torch.randn(GENERATED, multiples_of_five_gan.LATENT_DIM)
    told = {"ratio": training.ratio, "warned": float(not training.converged)}
    found = measure.judge_integers(name, training.generator(latents))
    return found | told | {"seconds": seconds}


def learn_points_by_the_book(job: tuple[str, int], limit: float) -> dict[str, float]:
    """The textbook's loop on a shape."""
    name, seed = job
    curve = SHAPES[name].curve
    assert curve is not None
    torch.set_num_threads(1)  # as two trainings run side by side
    data = measure.training_points(name, seed)
    ended = textbook.learn_points(data, curve, seed=seed, limit=limit)
    with torch.no_grad():
        points = ended.generator(torch.randn(GENERATED, 2))
    return measure.judge(name, data, points) | {"seconds": ended.seconds}


def learn_integers_by_the_book(job: tuple[str, int]) -> dict[str, float]:
    """The textbook's loop on a set of integers."""
    name, seed = job
    torch.set_num_threads(1)
    ended = textbook.learn_integers(measure.training_integers(name, seed), seed=seed)
    with torch.no_grad():
        rows = ended.generator(torch.randn(GENERATED, measure.DEPTH))
    return measure.judge_integers(name, rows) | {"seconds": ended.seconds}


Found = dict[str, list[dict[str, float]]]  # by name, for each seed


def over_seeds(
    function: Callable[[tuple[str, int]], dict[str, float]], names: Sequence[str], seeds: int
) -> Found:
    """What a function of a name and a seed finds."""
    jobs = [(name, seed) for name in names for seed in range(seeds)]
    found: Found = defaultdict(list)
    for (name, seed), figures in zip(jobs, measure.in_parallel(function, jobs), strict=True):
        print(f"{name}, seed {seed}:", {key: round(figure, 4) for key, figure in figures.items()})
        found[name].append(figures)
    return found


def table(found: Found) -> str:
    """Mean and worst of every figure, a row a name."""
    keys = list(dict.fromkeys(key for figures in found.values() for key in figures[0]))
    rows = [[name, *(measure.mean_and_worst(found[name], key) for key in keys)] for name in found]
    return measure.table(["data", *keys], rows)


def short_table(ours: Found, textbook: Found) -> str:
    """The figures that say most, ours beside the textbook's."""
    rows = []
    for name in ours:
        for key in ("excess", "off-curve", "coverage", "present"):
            cells = (measure.mean_and_worst(found[name], key, 2) for found in (ours, textbook))
            means_and_worst = [part for cell in cells for part in cell.split(" / ")]
            if len(means_and_worst) == 4:
                rows.append([name, key, *means_and_worst])
    header = ["data", "figure", "ours: mean", "worst", "textbook's: mean", "worst"]
    return measure.table(header, rows)


def points_for_picture(name: str) -> torch.Tensor:
    """2,048 generated points of a shape, seed 0."""
    training = sine_gan.train(measure.training_points(name), progress=False)
    return training.generator(torch.randn(SAMPLES, sine_gan.LATENT_DIM))


def save_picture(path: Path) -> None:
    """Real and generated points of every shape, seed 0."""
    figure = matplotlib.figure.Figure(figsize=(15, 15), layout="constrained")
    axes = figure.subplots(5, 6).flatten()
    generated = measure.in_parallel(points_for_picture, list(SHAPES))
    for axis in axes[len(SHAPES) :]:
        axis.set_axis_off()
    for axis, name, points in zip(axes, SHAPES, generated, strict=False):
        for rows, colour, size in (
            (measure.training_points(name), "#b8b8b8", 14),
            (points, "#0b4f8a", 1.5),
        ):
            axis.scatter(*rows.T.numpy(), s=size, color=colour, linewidths=0)
        axis.set_title(name)
    figure.suptitle("Real points (grey) and generated ones (blue), seed 0")
    figure.savefig(path, dpi=80)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = functools.partial(parser.add_argument, type=int)
    add("--seeds", default=20, help="of each script's own data (20)")
    add("--other-seeds", default=3, help="of every other kind (3)")
    add("--cluster-seeds", default=10, help="of every set of scattered or unequal clusters (10)")
    add("--textbook-seeds", default=2, help="of the textbook's loop (2)")
    add("--textbook-seconds", default=200, help="after which it is cut (200)")
    add("--out", type=Path, default=RESULTS / "quality.md")
    options = parser.parse_args()
    points = over_seeds(learn_points, OWN_SHAPES, options.seeds)
    integers = over_seeds(learn_integers, [OWN_SET], options.seeds)
    other_points = over_seeds(learn_points, OTHER_SHAPES, options.other_seeds)
    clusters = over_seeds(learn_points, CLUSTERS, options.cluster_seeds)
    other_integers = over_seeds(learn_integers, OTHER_SETS, options.other_seeds)
    by_the_book = functools.partial(learn_points_by_the_book, limit=options.textbook_seconds)
    textbook_points = over_seeds(by_the_book, OWN_SHAPES, options.textbook_seeds)
    textbook_integers = over_seeds(learn_integers_by_the_book, [OWN_SET], options.textbook_seeds)
    source = measure.circumstances("quality.py")
    text = f"""# Quality

Mean / worst over seeds, {SAMPLES:,} rows drawn anew for each, {GENERATED:,} generated ones judged
against the truth that training never saw. F (1 is ideal), its excess over the training set's own,
off-curve error, KL: lower is better. Shares of 1: inside the range, bins covered, near a cluster,
valid, values present. What the training itself says: ratio, precision, row coverage,
and warned (the share of seeds that were told not to have converged). Two trainings run side by
side, which slows both.

{source}
## The scripts' own data, {options.seeds} seeds

{table(points)}
{table(integers)}
## The textbook's loop on the same, {options.textbook_seeds} seeds, \
cut after {options.textbook_seconds} seconds

{table(textbook_points)}
{table(textbook_integers)}
## Other shapes, {options.other_seeds} seeds each, no setting changed

{table(other_points)}
## Clusters of equal and unequal shares, {options.cluster_seeds} seeds each, no setting changed

Lost is how many have less than a fifth of their due.

{table(clusters)}
## Other sets of integers, {options.other_seeds} seeds each

{table(other_integers)}
![real and generated points of every shape](quality.png)
"""
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(text)
    save_picture(options.out.with_suffix(".png"))
    if options.out.parent == RESULTS:
        short = short_table(points | integers, textbook_points | textbook_integers)
        measure.write_into_readme("quality", f"{short}\n{source}")


if __name__ == "__main__":
    main()
