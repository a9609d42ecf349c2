"""How good the generators are, beside the textbook's loop: results/quality.md and quality.png.

python benchmarks/quality.py     over 20 seeds, 25 minutes on 2 cores; needs scipy
"""

import itertools
from collections.abc import Iterable
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
OTHER_SHAPES = [name for name in SHAPES if name not in (*OWN_SHAPES, *CLUSTERS)]
OTHER_SETS = [name for name in SETS if name != OWN_SET]
COLUMNS = ["F", "excess", "off-curve", "inside", "coverage", "near", "lost", "valid", "present"]
COLUMNS += ["KL", "ratio", "precision", "row coverage", "warned", "seconds"]
SHORT = ["excess", "off-curve", "present"]
RING = "ring of 8, deviation 0.05"  # the data of wgan.py
RING_COLUMNS = ["clusters found", "near", "excess", "correlation", "seconds"]

Runs = dict[str, list[Figures]]  # by name, for each seed


def learn(name: str, seed: int, **settings: Any) -> Figures:
    """Train a script on a shape or a set of integers."""
    training, figures = measure.learn(name, seed, **settings)
    return figures | {"samples": training.samples[: measure.SAMPLES]}


def learn_by_the_book(name: str, seed: int, limit: float) -> Figures:
    """The same by the textbook's loop, for at most `limit` seconds."""
    torch.set_num_threads(1)  # as two trainings run side by side
    data = measure.training_data(name, seed)
    if name in SHAPES:
        result = textbook.learn_points(data, SHAPES[name].curve, seed, limit)
    else:
        result = textbook.learn_integers(data, seed, limit)
    rows = result.generator(torch.randn(measure.GENERATED, data.shape[1]))
    return measure.evaluate(name, data, rows) | {"seconds": result.seconds}


def short_table(ours: Runs, book: Runs) -> str:
    """README's table."""
    rows = []
    for name in book:
        both = (measure.cells(runs[name], SHORT, 2) for runs in (ours, book))
        for key, *cells in zip(SHORT, *both, strict=True):
            rows += [[name, key, *" / ".join(cells).split(" / ")]] if all(cells) else []
    header = ["data", "figure", "ours: mean", "worst", "textbook's: mean", "worst"]
    return measure.table(header, rows)


def learn_ring(script: ModuleType, seed: int, **settings: Any) -> Figures:
    """Figures on the ring, with the correlation of the loss and the distance over the epochs."""
    training, figures = measure.learn(RING, seed, script, **settings)
    _, d_losses, g_losses, distances = zip(*training.history, strict=True)
    # The critic's loss is minus its estimate of the distance
    losses = [-loss for loss in d_losses] if script is wgan else g_losses
    falling = 1 + next(i for i, far in enumerate(distances) if far <= 1.1 * min(distances))
    correlation = spearmanr(losses[:falling], distances[:falling]).statistic
    return figures | {"clusters found": 8 - figures["lost"], "correlation": correlation}


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=20)
    limit = "seconds of the textbook's loop, at most (%(default)s)"
    parser.add_argument("--limit", metavar="S", type=float, default=100, help=limit)
    options = parser.parse_args()
    seeds = dict.fromkeys((*SHAPES, *SETS), 3) | dict.fromkeys(CLUSTERS, 10)
    seeds = {name: min(most, options.seeds) for name, most in seeds.items()}
    seeds |= dict.fromkeys(OWN, options.seeds)
    runs = measure.over_seeds(learn, seeds, **options.settings)
    by_the_book = dict.fromkeys(OWN, min(2, options.seeds))
    book = measure.over_seeds(learn_by_the_book, by_the_book, limit=options.limit)
    ring: Runs = {"wgan": [], "sine_gan": []}
    for seed, script in itertools.product(range(min(10, options.seeds)), (wgan, sine_gan)):
        ring[script.__name__].append(learn_ring(script, seed, **options.settings))

    def table(runs: Runs, names: Iterable[str]) -> str:
        return measure.runs_table("data", {name: runs[name] for name in names}, COLUMNS)

    measure.write_page(
        "quality.md",
        own=table(runs, OWN),
        textbook=table(book, OWN),
        shapes=table(runs, OTHER_SHAPES),
        clusters=table(runs, CLUSTERS),
        sets=table(runs, OTHER_SETS),
        ring=measure.runs_table("script", ring, RING_COLUMNS, 3),
    )
    measure.write_blocks(measure.README, quality=f"{short_table(runs, book)}\n{measure.source()}")
    measure.write_row(measure.README, ["wgan", measure.words(ring["wgan"], RING_COLUMNS)])
    figure = Figure((15, 15), layout="constrained")
    figure.suptitle("Real points (grey) and generated ones (blue)")
    for axis, name in zip(figure.subplots(5, 5).flat, SHAPES, strict=True):
        axis.set_title(name)
        axis.scatter(*measure.training_data(name).T, s=14, color=common.REAL, linewidths=0)
        axis.scatter(*runs[name][0]["samples"].T, s=1.5, color=common.GENERATED, linewidths=0)
    figure.savefig(measure.RESULTS / "quality.png", dpi=80)


if __name__ == "__main__":
    main()
