"""How good the generators are, beside the textbook's loop: results/quality.md and quality.png.

python benchmarks/quality.py     over 20 seeds, 25 minutes on 2 cores; needs scipy
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import measure
import textbook
import torch
from matplotlib.figure import Figure
from measure import CLUSTERS, OWN_SET, OWN_SHAPES, SETS, SHAPES, Figures
from scipy.stats import spearmanr
from torch import Tensor

import multiples_of_five_gan
import sine_gan
import wgan

OWN = [*OWN_SHAPES, OWN_SET]
OTHER_SHAPES = [name for name in SHAPES if name not in (*OWN_SHAPES, *CLUSTERS)]
OTHER_SETS = [name for name in SETS if name != OWN_SET]
SHORT = {name: measure.COLUMNS[name] for name in ("excess", "off-curve", "present")}
RING = "ring of 8, deviation 0.05"  # the data of wgan.py
RING_COLUMNS: measure.Columns = {
    **{"clusters found": min, "near": min, "excess": max, "correlation": min, "seconds": max}
}

Runs = dict[str, list[Figures]]  # by name, for each seed


def learn(job: tuple[str, int], **settings: Any) -> tuple[Figures, Tensor]:
    """Train a script on a shape or a set of integers; gives samples, too."""
    name, seed = job
    script = sine_gan if name in SHAPES else multiples_of_five_gan
    training, figures = measure.learn(script, name, seed, **settings)
    return figures, training.samples[: measure.SAMPLES]


def learn_by_the_book(job: tuple[str, int], limit: float) -> tuple[Figures, Tensor]:
    """The same by the textbook's loop, for at most `limit` seconds."""
    name, seed = job
    torch.set_num_threads(1)  # as two trainings run side by side
    data = measure.training_data(name, seed)
    if name in SHAPES:
        result = textbook.learn_points(data, SHAPES[name].curve, seed, limit)
    else:
        result = textbook.learn_integers(data, seed, limit)
    rows = result.generator(torch.randn(measure.GENERATED, data.shape[1]))
    return measure.evaluate(name, data, rows) | {"seconds": result.seconds}, rows[: measure.SAMPLES]


def over_seeds(function: Callable, seeds: dict[str, int]) -> tuple[Runs, dict[str, Tensor]]:
    """The figures of so many seeds of each name, and samples of the first one."""
    jobs = [(name, seed) for name in seeds for seed in range(seeds[name])]
    runs: Runs = {name: [] for name in seeds}
    samples: dict[str, Tensor] = {}
    for (name, seed), found in zip(jobs, measure.in_parallel(function, jobs), strict=True):
        print(f"{name}, seed {seed}:", found[0], flush=True)
        runs[name].append(found[0])
        samples.setdefault(name, found[1])
    return runs, samples


def table(runs: Runs, names: Sequence[str]) -> str:
    """Mean / worst of every figure."""
    measured = {key for name in names for key in runs[name][0]}
    columns = {key: worst for key, worst in measure.COLUMNS.items() if key in measured}
    rows = [[name, *measure.cells(runs[name], columns)] for name in names]
    return measure.table(["data", *columns], rows)


def short_table(ours: Runs, book: Runs) -> str:
    """README's table."""
    rows = []
    for name in book:
        both = (measure.cells(runs[name], SHORT, 2) for runs in (ours, book))
        for key, *cells in zip(SHORT, *both, strict=True):
            rows += [[name, key, *" / ".join(cells).split(" / ")]] if all(cells) else []
    header = ["data", "figure", "ours: mean", "worst", "textbook's: mean", "worst"]
    return measure.table(header, rows)


def save_picture(path: Path, samples: dict[str, Tensor]) -> None:
    """Draw real and generated points of every shape."""
    figure = Figure(figsize=(15, 15), layout="constrained")
    for i, name in enumerate(SHAPES):
        axis = figure.add_subplot(5, 6, i + 1, title=name)
        axis.scatter(*measure.training_data(name).T, s=14, color="#b8b8b8", linewidths=0)
        axis.scatter(*samples[name].T, s=1.5, color="#0b4f8a", linewidths=0)
    figure.suptitle("Real points (grey) and generated ones (blue)")
    figure.savefig(path, dpi=80)


def measure_ring(seeds: int, **settings: Any) -> Runs:
    """Figures on the ring, with the correlation of the loss and the distance over the epochs."""
    runs: Runs = {"wgan": [], "sine_gan": []}
    for seed, script in itertools.product(range(seeds), (wgan, sine_gan)):
        training, figures = measure.learn(script, RING, seed, **settings)
        _, d_losses, g_losses, distances = zip(*training.history, strict=True)
        # The critic's loss is minus its estimate of the distance
        losses = [-loss for loss in d_losses] if script is wgan else g_losses
        falling = 1 + next(i for i, far in enumerate(distances) if far <= 1.1 * min(distances))
        figures["clusters found"] = 8 - figures["lost"]
        figures["correlation"] = spearmanr(losses[:falling], distances[:falling]).statistic
        runs[script.__name__].append(figures)
    return runs


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=20)
    add = functools.partial(parser.add_argument, metavar="N", type=int)
    add("--other-seeds", default=3, help="of every other kind of data (3)")
    add("--cluster-seeds", default=10, help="of scattered and unequal clusters (10)")
    add("--ring-seeds", default=10, help="of wgan.py and sine_gan.py on a ring of clusters (10)")
    add("--textbook-seeds", default=2, help="of the textbook's loop (2)")
    add("--textbook-seconds", default=100, help="time limit of the textbook's loop (100)")
    options = parser.parse_args()
    seeds = dict.fromkeys(OWN, options.seeds) | dict.fromkeys(CLUSTERS, options.cluster_seeds)
    seeds |= dict.fromkeys([*OTHER_SHAPES, *OTHER_SETS], options.other_seeds)
    runs, samples = over_seeds(functools.partial(learn, **options.settings), seeds)
    by_the_book = functools.partial(learn_by_the_book, limit=options.textbook_seconds)
    book, _ = over_seeds(by_the_book, dict.fromkeys(OWN, options.textbook_seeds))
    ring = measure_ring(options.ring_seeds, **options.settings)
    rows = [[name, *measure.cells(each, RING_COLUMNS, 3)] for name, each in ring.items()]
    measure.write_blocks(
        measure.RESULTS / "quality.md",
        source=measure.source(),
        own=table(runs, OWN),
        textbook=table(book, OWN),
        shapes=table(runs, OTHER_SHAPES),
        clusters=table(runs, CLUSTERS),
        sets=table(runs, OTHER_SETS),
        ring=measure.table(["script", *RING_COLUMNS], rows),
    )
    save_picture(measure.RESULTS / "quality.png", samples)
    measure.write_blocks(measure.README, quality=f"{short_table(runs, book)}\n{measure.source()}")
    measure.write_row(measure.README, ["wgan", measure.words(ring["wgan"], RING_COLUMNS)])


if __name__ == "__main__":
    main()
