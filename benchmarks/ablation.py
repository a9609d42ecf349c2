"""What each part of the scripts is worth, and how a GAN fails without several of them.

python benchmarks/ablation.py     over 20 seeds, 40 minutes on 2 cores

A part is removed by replacing what stands for a name. Writes results/ablation.md, failures.png.
"""

import contextlib
import functools
import math
from collections.abc import Iterator
from itertools import count
from typing import Any
from unittest import mock

import measure
import torch
from matplotlib.figure import Figure
from measure import OWN_SET, SHAPES, Figures
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import common
import multiples_of_five_gan
import sine_gan

Changes = dict[str, Any]  # names, and what replaces them


def without_waves(build: str) -> Changes:
    """A function of sine_gan.py that builds its network with zeros for Fourier features."""
    original = getattr(sine_gan, build)

    def build_without(features: int) -> nn.Module:
        network = original(features)
        for part in network.modules():
            if isinstance(part, common.FourierFeatures):
                part.forward = lambda x: nn.functional.pad(x, (0, 6 * x.shape[1]))
        return network

    return {f"sine_gan.{build}": build_without}


def training_with(**changes: Any) -> Changes:
    """Other settings of the training."""
    return {"sine_gan.Training": lambda *a, **b: common.Training(*a, **b | changes)}


def random_batches(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Endless batches of rows drawn with replacement."""
    return (rows[torch.randint(len(rows), (size,))] for _ in count())


def random_noise(size: int, columns: int, _: torch.device) -> Iterator[Tensor]:
    """Endless batches of independent normal noise."""
    return (torch.randn(size, columns) for _ in count())


def saturating_bce(scores: Tensor, labels: Tensor) -> Tensor:
    """The loss of the first GANs: the generator minimises log(1 - D)."""
    return -bce(scores, 1 - labels) if labels.all() else bce(scores, labels)


POINTS: dict[str, Changes] = {
    "nothing": {},
    "standardised data": training_with(max_std=None),
    "narrower far data": training_with(max_std=math.inf),
    "shuffled batches": {"common.Batches": random_batches},
    "Sobol noise": {"common.sobol_noise": random_noise},
    "uniform noise": {"torch.erf": lambda noise: (2 / 3) ** 0.5 * noise},
    "wide initial output": {"torch.nn.init.eye_": nn.init.zeros_},
    "Fourier features of G": without_waves("build_generator"),
    "Fourier features of D": without_waves("build_discriminator"),
    "LeakyReLU": {"torch.nn.LeakyReLU": lambda _: nn.ReLU()},
    "gradient penalty": {"sine_gan.PENALTY": 0.0},
    "beta1 = 0": {"sine_gan.BETAS": (0.9, 0.95)},
    "rate decay": {"common.EarlyStopping.lr_factor": 1.0},
    "EMA": {"sine_gan.EMA_DECAY": 0.0},
}
INTEGERS: dict[str, Changes] = {
    "nothing": {},
    "initial output of all integers": {"torch.nn.init.eye_": nn.init.normal_},
    "gradient penalty": {"multiples_of_five_gan.PENALTY": 0.0},
    "rate decay": {"common.EarlyStopping.lr_factor": 1.0},
    "EMA": {"multiples_of_five_gan.EMA_DECAY": 0.0},
}
LINEAR = {"sine_gan.build_discriminator": functools.partial(nn.Linear, out_features=1)}
SATURATING = {"sine_gan.bce": saturating_bce}
FAILURES: dict[str, tuple[Changes, list[str]]] = {  # changes, and the parts that are removed
    "as it is": ({}, []),
    "mode collapse": (LINEAR, ["wide initial output"]),
    "vanishing gradients": (SATURATING, ["wide initial output", "gradient penalty", "beta1 = 0"]),
    "oscillation": (
        {},
        ["Fourier features of D", "gradient penalty", "beta1 = 0", "rate decay", "EMA"],
    ),
}
# Seeds, at most: as many as show what happens
POINT_SEEDS = {"exponential": 20, "noisy sine": 8, "grid of 25, deviation 0.05": 3}
POINT_SEEDS["5 scattered clusters, 1 to 20"] = 3
INTEGER_SEEDS = {OWN_SET: 20, "50 values, five of them ten times as likely": 3}
FIGURES = ("excess", "off-curve", "near", "lost", "valid", "present", "KL", "warned")


@contextlib.contextmanager
def replaced(changes: Changes) -> Iterator[None]:
    """Replace what stands for some names."""
    with contextlib.ExitStack() as stack:
        for name, value in changes.items():
            stack.enter_context(mock.patch(name, value))
        yield


def learn(job: tuple[str, str, int], **settings: Any) -> Figures:
    """Train without a part."""
    part, name, seed = job
    parts, script = (POINTS, sine_gan) if name in SHAPES else (INTEGERS, multiples_of_five_gan)
    with replaced(parts[part]):
        return measure.learn(script, name, seed, **settings)[1]


def ablation(parts: dict, most: dict[str, int], seeds: int, **settings: Any) -> str:
    """A table of what is measured without each part."""
    header, rows = ["without"], {part: [part] for part in parts}
    for name in most:
        some = range(min(most[name], seeds))
        jobs = [(part, name, seed) for part in parts for seed in some]
        found = iter(list(measure.in_parallel(functools.partial(learn, **settings), jobs)))
        for part in parts:
            runs = [next(found) for _ in some]
            columns = {key: measure.COLUMNS[key] for key in FIGURES if key in runs[0]}
            rows[part] += measure.cells(runs, columns)
            print(name, rows[part], flush=True)
        first, *others = columns
        header += [f"{name}, {len(some)} seeds: {first}", *others]
    return measure.table(header, rows.values())


def draw_failures(figure: Figure, **settings: Any) -> str:
    """Draw a training with each failure; a table of the last losses and of what was checked."""
    rows, data = [], measure.training_data("sine")
    for axes, (name, (changes, parts)) in zip(figure.subplots(4, 3), FAILURES.items(), strict=True):
        for part in parts:
            changes = changes | POINTS[part]
        with replaced(changes):
            training, _ = measure.learn(sine_gan, "sine", 0, **settings)
        _, d_losses, g_losses, distances = zip(*training.history, strict=True)
        axes[0].scatter(*data.T, s=2, color=common.REAL, label="real")
        limits = axes[0].axis()
        points = training.samples[:2048]
        axes[0].scatter(*points.T, s=2, color=common.GENERATED, label="generated")
        axes[0].axis(limits)
        axes[0].set(title=name, xlabel="x", ylabel="y")
        axes[1].plot(d_losses, color=common.REAL, label="discriminator")
        axes[1].plot(g_losses, color=common.GENERATED, label="generator")
        axes[1].set(xlabel="epoch", ylabel="loss")
        axes[2].plot(distances, color=common.GENERATED)
        axes[2].set(xlabel="epoch", ylabel="distance", yscale="log", ylim=(0.03, 10))
        for axis in axes[:2]:
            axis.legend(loc="upper right")
        cells = [f"{x:z.2f}" for x in (d_losses[-1], g_losses[-1], training.ratio)]
        cells += [f"{x:.0%}" for x in (training.precision, training.coverage)]
        rows.append([name, *cells, "Good" if training.converged else "WARNING"])
    header = ["last loss of the discriminator", "of the generator", "ratio", "precision"]
    return measure.table(["", *header, "coverage", "verdict"], rows)


def main() -> None:
    """Measure, and write the results."""
    options = measure.parser(__doc__, seeds=20).parse_args()
    figure = Figure(figsize=(10, 10), layout="constrained")
    measure.write_blocks(
        measure.RESULTS / "ablation.md",
        failures=draw_failures(figure, **options.settings),
        points=ablation(POINTS, POINT_SEEDS, options.seeds, **options.settings),
        integers=ablation(INTEGERS, INTEGER_SEEDS, options.seeds, **options.settings),
        source=measure.source(),
    )
    figure.savefig(measure.RESULTS / "failures.png", dpi=100)


if __name__ == "__main__":
    main()
