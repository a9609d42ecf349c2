"""What each part of the scripts is worth, and how a GAN fails without several of them.

python benchmarks/ablation.py     over 20 seeds, 40 minutes on 2 cores

A part is removed by replacing what stands for a name. Writes results/ablation.md, failures.png.
"""

import functools
import math
from itertools import count
from pathlib import Path
from typing import Any

import measure
import torch
from measure import OWN_SET, SHAPES, Figures
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import common

Changes = dict[str, Any]  # names, and what replaces them


def without_waves(width: int) -> Changes:
    """Zeros in place of the Fourier features of the network with so many hidden units."""

    def build(inputs: int, hidden: int, outputs: int, activation: nn.Module) -> nn.Module:
        network = common.fourier_mlp(inputs, hidden, outputs, activation)
        if hidden == width:
            network[0] = nn.ZeroPad1d((0, 6 * inputs))
        return network

    return {"sine_gan.fourier_mlp": build}


def training_with(**changes: Any) -> Changes:
    """Other settings of the training."""
    return {"sine_gan.Training": lambda *a, **b: common.Training(*a, **b | changes)}


def saturating_bce(scores: Tensor, labels: Tensor) -> Tensor:
    """The loss of the first GANs: the generator minimises log(1 - D)."""
    return -bce(scores, 1 - labels) if labels.all() else bce(scores, labels)


POINTS: dict[str, Changes] = {
    "nothing": {},
    "standardised data": training_with(max_std=None),
    "narrower far data": training_with(max_std=math.inf),
    "shuffled batches": {
        "common.Batches": lambda rows, n: (rows[torch.randint(len(rows), (n,))] for _ in count())
    },
    "Sobol noise": {"common.sobol_noise": lambda n, m, _: (torch.randn(n, m) for _ in count())},
    "uniform noise": {"torch.erf": lambda noise: (2 / 3) ** 0.5 * noise},
    "wide initial output": {"torch.nn.init.eye_": nn.init.zeros_},
    "Fourier features of G": without_waves(128),
    "Fourier features of D": without_waves(64),
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
UNSTABLE = POINTS["gradient penalty"] | POINTS["beta1 = 0"]
CONSTANT = POINTS["rate decay"] | POINTS["EMA"]
FAILURES: dict[str, Changes] = {
    "as it is": {},
    "mode collapse": LINEAR | POINTS["wide initial output"],
    "vanishing gradients": SATURATING | POINTS["wide initial output"] | UNSTABLE,
    "oscillation": POINTS["Fourier features of D"] | UNSTABLE | CONSTANT,
}
# Seeds, at most: as many as show what happens
POINT_SEEDS = {"exponential": 20, "noisy sine": 8, "grid of 25, deviation 0.05": 3}
POINT_SEEDS["5 scattered clusters, 1 to 20"] = 3
INTEGER_SEEDS = {OWN_SET: 20, "50 values, five of them ten times as likely": 3}
FIGURES = ("excess", "off-curve", "near", "lost", "valid", "present", "KL", "warned")


def learn_without(part_and_name: tuple[str, str], seed: int, **settings: Any) -> Figures:
    """Figures of a training without a part, on a shape or a set."""
    part, name = part_and_name
    changes = (POINTS if name in SHAPES else INTEGERS)[part]
    return measure.learn(name, seed, changes=changes, **settings)[1]


def ablation(parts: dict, most: dict[str, int], seeds: int, **settings: Any) -> str:
    """A table of what is measured without each part."""
    jobs = {(part, name): min(most[name], seeds) for name in most for part in parts}
    runs = measure.over_seeds(learn_without, jobs, **settings)
    header, rows = ["without"], {part: [part] for part in parts}
    for name in most:
        first, *others = [key for key in FIGURES if key in runs["nothing", name][0]]
        header += [f"{name}, {jobs['nothing', name]} seeds: {first}", *others]
        for part in parts:
            rows[part] += measure.cells(runs[part, name], [first, *others])
    return measure.table(header, rows.values())


def draw_failures(path: Path, **settings: Any) -> str:
    """Draw a training with each failure; a table of the last losses and of what was checked."""
    rows, pictures = [], []
    for name, changes in FAILURES.items():
        training, _ = measure.learn("sine", 0, changes=changes, **settings)
        figure = common.plot_points(training)
        figure.suptitle(name)
        pictures.append(figure._repr_png_())
        _, d_loss, g_loss, _ = training.history[-1]
        cells = [f"{x:z.2f}" for x in (d_loss, g_loss, training.ratio)]
        cells += [f"{x:.0%}" for x in (training.precision, training.coverage)]
        rows.append([name, *cells, "Good" if training.converged else "WARNING"])
    measure.save_four(path, pictures)
    header = ["last loss of the discriminator", "of the generator", "ratio", "precision"]
    return measure.table(["", *header, "coverage", "verdict"], rows)


def main() -> None:
    """Measure, and write the results."""
    options = measure.parser(__doc__, seeds=20).parse_args()
    measure.write_page(
        "ablation.md",
        failures=draw_failures(measure.RESULTS / "failures.png", **options.settings),
        points=ablation(POINTS, POINT_SEEDS, options.seeds, **options.settings),
        integers=ablation(INTEGERS, INTEGER_SEEDS, options.seeds, **options.settings),
    )


if __name__ == "__main__":
    main()
