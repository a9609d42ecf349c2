"""How good the generators are, beside the textbook's loop: results/quality.md and quality.png.

python benchmarks/quality.py     over 20 seeds, 25 minutes on 2 cores; needs scipy
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import measure
import textbook
import torch
from matplotlib.figure import Figure
from measure import CLUSTERS, OWN_SET, OWN_SHAPES, SETS, SHAPES, Figures
from scipy.stats import spearmanr

import common
import sine_gan
import wgan

OWN = [*OWN_SHAPES, OWN_SET]
OTHER_SHAPES = [name for name in SHAPES if name not in OWN_SHAPES + CLUSTERS]
OTHER_SETS = [name for name in SETS if name != OWN_SET]
COLUMNS = [
    "F",
    "excess",
    "off-curve",
    "inside",
    "coverage",
    "near",
    "lost",
    "valid",
    "present",
    "KL",
    "ratio",
    "precision",
    "row coverage",
    "warned",
    "seconds",
]
IDEALS = {"exponential": 1.0, "sine": 1.0, "integers of 20": 20.0}
RING = "ring of 8, deviation 0.05"  # the data of wgan.py
RING_COLUMNS = ["clusters found", "near", "excess", "correlation", "seconds"]
# Seeds, at most; of the scripts' own data, as many as asked for
SHAPE_SEEDS = 3
CLUSTER_SEEDS = 10
RING_SEEDS = 10
TEXTBOOK_SEEDS = 2
TIMED_SEEDS = 5  # of the scripts' own data, one training at a time

Runs = dict[str, list[Figures]]  # by name, for each seed


def learn(name: str, seed: int, **settings: Any) -> Figures:
    """Train a script on a shape or a set of integers."""
    training, figures = measure.learn(name, seed, **settings)
    print(name, seed, figures, flush=True)
    return figures | {"samples": training.samples[: measure.SAMPLES]}


def learn_by_the_book(name: str, seed: int, limit: float) -> Figures:
    """The same by the textbook's loop, for at most `limit` seconds."""
    torch.set_num_threads(1)  # as two trainings run side by side
    data = measure.training_data(name, seed)
    curve = SHAPES[name].curve if name in SHAPES else None
    if curve:
        result = textbook.learn_points(data, curve, seed, limit)
    else:
        result = textbook.learn_integers(data, seed, limit)
    rows = result.generator(torch.randn(measure.GENERATED, data.shape[1]))
    figures = measure.evaluate(name, data, rows) | {"seconds": result.seconds}
    print("textbook", name, seed, figures, flush=True)
    return figures


def learn_ring(script: ModuleType, seed: int, **settings: Any) -> Figures:
    """Figures on the ring, with the correlation of the loss and the distance over the epochs."""
    training, figures = measure.learn(RING, seed, script, **settings)
    _, d_losses, g_losses, distances = zip(*training.history, strict=True)
    losses = list(g_losses)
    if script is wgan:  # the critic's loss is minus its estimate of the distance
        losses = [-loss for loss in d_losses]
    falling = epochs_until_lowest(distances)
    correlation = spearmanr(losses[:falling], distances[:falling]).statistic
    figures |= {"clusters found": 8 - figures["lost"], "correlation": correlation}
    print(script.__name__, RING, seed, figures, flush=True)
    return figures


def epochs_until_lowest(distances: Sequence[float]) -> int:
    """The number of epochs until the distance is within a tenth of its minimum."""
    epochs = 1
    while distances[epochs - 1] > 1.1 * min(distances):
        epochs += 1
    return epochs


def seeds_of_all(most: int) -> dict[str, int]:
    """The number of seeds of each shape and set, if at most so many are asked for."""
    seeds = dict.fromkeys([*SHAPES, *SETS], min(SHAPE_SEEDS, most))
    seeds |= dict.fromkeys(CLUSTERS, min(CLUSTER_SEEDS, most))
    seeds |= dict.fromkeys(OWN, most)
    return seeds


def readme_figures(runs: Runs) -> list[Figures]:
    """The figures that README shows, of the scripts' own data."""
    curves = [{name: run["F"]} for name in OWN_SHAPES for run in runs[name]]
    integers = [{"integers of 20": 20 * run["present"]} for run in runs[OWN_SET]]
    return curves + integers


def write_scripts(runs: Runs, timed: Runs) -> None:
    """What README says of each script: how well, and the seconds of the timed runs."""
    results = {
        "exp_curve_gan": ("exponential", "F", "distance {:.2f} (its data: 1)"),
        "sine_gan": ("sine", "F", "distance {:.2f} (its data: 1)"),
        "multiples_of_five_gan": (OWN_SET, "valid", "{:.0%} are right"),
        "wgan": ("wgan", "clusters found", "{:.0f} of 8 clusters"),
    }
    for script, (name, figure, text) in results.items():
        result = text.format(measure.mean(runs[name], figure))
        measure.write_script(script, measure.mean(timed[name], "seconds"), result)


def table(runs: Runs, names: Sequence[str]) -> str:
    """A table of the runs with these names."""
    return measure.runs_table("data", {name: runs[name] for name in names}, COLUMNS, ["excess"])


def plot_shapes(runs: Runs) -> Figure:
    """Plots real and generated points of the first seed of each shape."""
    figure = Figure((15, 15), layout="constrained")
    figure.suptitle("Real points (grey) and generated ones (blue)")
    for axes, name in zip(figure.subplots(5, 5).flat, SHAPES, strict=True):
        data = measure.training_data(name)
        samples = runs[name][0]["samples"]
        axes.set_title(name)
        axes.scatter(data[:, 0], data[:, 1], s=14, color=common.REAL, linewidths=0)
        axes.scatter(samples[:, 0], samples[:, 1], s=1.5, color=common.GENERATED, linewidths=0)
    return figure


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=20)
    parser.add_argument(
        "--limit",
        metavar="S",
        type=float,
        default=100,
        help="seconds of the textbook's loop, at most (%(default)s)",
    )
    options = parser.parse_args()
    runs = measure.over_seeds(learn, seeds_of_all(options.seeds), **options.settings)
    by_the_book = dict.fromkeys(OWN, min(TEXTBOOK_SEEDS, options.seeds))
    book = measure.over_seeds(learn_by_the_book, by_the_book, limit=options.limit)
    timed: Runs = {}
    for name in OWN:
        seeds = range(min(TIMED_SEEDS, options.seeds))
        timed[name] = [learn(name, seed, **options.settings) for seed in seeds]
    ring: Runs = {"wgan": [], "sine_gan": []}
    for seed in range(min(RING_SEEDS, options.seeds)):
        for script in (wgan, sine_gan):
            ring[script.__name__].append(learn_ring(script, seed, **options.settings))

    measure.write_page(
        "quality.md",
        own=table(runs, OWN),
        textbook=table(book, OWN),
        shapes=table(runs, OTHER_SHAPES),
        clusters=table(runs, CLUSTERS),
        sets=table(runs, OTHER_SETS),
        ring=measure.runs_table("script", ring, RING_COLUMNS, ["excess"]),
    )
    short = {"ours": readme_figures(runs), "a textbook's loop": readme_figures(book)}
    measure.write_blocks(measure.README, points=measure.comparison(short, IDEALS))
    write_scripts(runs | ring, timed | ring)
    plot_shapes(runs).savefig(measure.RESULTS / "quality.png", dpi=80)


if __name__ == "__main__":
    main()
