"""What each part of the scripts is worth, and how a GAN fails without several of them.

python benchmarks/ablation.py     over 20 seeds, 40 minutes on 2 cores

`Points` and `Integers` are the loops of sine_gan.py and multiples_of_five_gan.py, with a field for
each part that can be removed; as they are, they give the same figures as the scripts. Writes
results/ablation.md and failures.png.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import measure
import torch
from measure import OWN_SET, SHAPES, Figures
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import common
import multiples_of_five_gan
import sine_gan
from common import Training

Losses = tuple[Tensor, Tensor]  # of the discriminator and of the generator

# --- Points ------------------------------------------------------------------------------------


class GeneratorOfNormalNoise(sine_gan.Generator):
    """The generator without uniform noise."""

    def forward(self, noise: Tensor) -> Tensor:
        return self.skip(noise) + self.layers(noise)


def remove_waves(network: nn.Sequential, inputs: int) -> None:
    """Puts zeros in the place of the sines and cosines that a network begins with."""
    if not isinstance(network[0], common.FourierFeatures):
        raise TypeError(f"expected Fourier features, found {network[0]}")
    network[0] = nn.ZeroPad1d((0, 6 * inputs))


def random_batches(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Endless batches (size, columns) of rows (n, columns), drawn with replacement."""
    while True:
        yield rows[torch.randint(len(rows), (size,))]


def random_noise(size: int, columns: int) -> Iterator[Tensor]:
    """Endless batches (size, columns) of independent normal noise."""
    while True:
        yield torch.randn(size, columns)


@dataclass
class Points:
    """sine_gan.py, or what is left of it."""

    LATENT_DIM: ClassVar[int] = sine_gan.LATENT_DIM

    standardized: bool = True
    limit: float = sine_gan.UNIFORM_MAX
    shuffled_batches: bool = True
    even_noise: bool = True
    uniform_noise: bool = True
    wide_output: bool = True
    generator_waves: bool = True
    discriminator_waves: bool = True
    leaky: bool = True
    linear_discriminator: bool = False
    saturating_loss: bool = False
    penalty: float = sine_gan.PENALTY
    beta1: float = sine_gan.BETAS[0]
    lr_decay: bool = True
    ema_decay: float = sine_gan.EMA_DECAY

    def build_generator(self, columns: int) -> nn.Module:
        """Noise (n, LATENT_DIM) to rows (n, columns)."""
        generator_class = sine_gan.Generator if self.uniform_noise else GeneratorOfNormalNoise
        generator = generator_class(self.LATENT_DIM, columns)
        if not self.generator_waves:
            remove_waves(generator.layers, self.LATENT_DIM)
        if not self.wide_output:
            nn.init.zeros_(generator.skip.weight)
        return generator

    def build_discriminator(self, columns: int) -> nn.Module:
        """Rows (n, columns) to logits (n, 1)."""
        if self.linear_discriminator:
            return nn.Linear(columns, 1)
        activation = nn.LeakyReLU(0.1) if self.leaky else nn.ReLU()
        discriminator = common.fourier_mlp(columns, 64, 1, activation)
        if not self.discriminator_waves:
            remove_waves(discriminator, columns)
        return discriminator

    def scaling(self, rows: Tensor) -> tuple[nn.Module, nn.Module]:
        """Modules that standardise rows (n, columns), and turn them back."""
        if not self.standardized:
            return nn.Identity(), nn.Identity()
        standardize = common.Standardize(rows, limit=self.limit)
        return standardize, standardize.inverse()

    def noises(self, size: int) -> Iterator[Tensor]:
        """Endless batches of noise (size, LATENT_DIM)."""
        if self.even_noise:
            return common.even_noise(size, self.LATENT_DIM, "cpu")
        return random_noise(size, self.LATENT_DIM)

    def generator_loss(self, scores: Tensor) -> Tensor:
        """The loss of the generator, for the scores (n, 1) of what it made."""
        if self.saturating_loss:  # that of the first GANs: log(1 - D) is minimised
            return -bce(scores, torch.zeros_like(scores))
        return bce(scores, torch.ones_like(scores))

    def train(
        self, data: Tensor, *, seed: int = 0, progress: bool = True, epochs: int = 60
    ) -> Training:
        """The `train` of sine_gan.py on the CPU, without the parts that are removed."""
        training = Training(
            data,
            seed=seed,
            epochs=epochs,
            patience=3,
            cooldown=sine_gan.COOLDOWN,
            progress=progress,
        )
        lr = 0.004
        columns = data.shape[1]
        batch_size = min(256, len(data))
        standardize, restore = self.scaling(data)
        make_batches = common.Batches if self.shuffled_batches else random_batches
        batches = make_batches(standardize(data), batch_size)
        noises = self.noises(batch_size)

        generator = self.build_generator(columns)
        ema_generator = copy.deepcopy(generator)
        discriminator = self.build_discriminator(columns)
        betas = (self.beta1, sine_gan.BETAS[1])
        g_optimizer = Adam(generator.parameters(), lr, betas, fused=True)
        d_optimizer = Adam(discriminator.parameters(), lr, betas, fused=True)
        ones = torch.ones(batch_size, 1)
        real_then_fake = torch.cat([ones, torch.zeros_like(ones)])
        result = nn.Sequential(ema_generator, restore)
        fixed_noise = torch.randn(1024, self.LATENT_DIM)

        def step(points: Tensor, noise: Tensor, apply_penalty: bool) -> Losses:
            fakes = generator(noise)
            seen = torch.cat([points, fakes.detach()]).requires_grad_(apply_penalty)
            scores = discriminator(seen)
            d_loss = bce(scores, real_then_fake)
            if apply_penalty:
                d_loss = d_loss + self.penalty * common.gradient_penalty(scores, seen)
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()

            g_loss = self.generator_loss(discriminator(fakes))
            g_optimizer.zero_grad()
            g_loss.backward(inputs=list(generator.parameters()))
            g_optimizer.step()
            common.update_ema(ema_generator, generator, self.ema_decay)
            return d_loss, g_loss

        for _ in training.epochs():
            factor = training.lr_factor if self.lr_decay else 1.0
            common.set_lr(lr * factor, g_optimizer, d_optimizer)
            for i in range(sine_gan.BATCHES_PER_EPOCH):
                d_loss, g_loss = step(next(batches), next(noises), i % 4 == 0)
            training.evaluate(result, fixed_noise, d_loss.item(), g_loss.item())
        return training.finish(result, torch.randn(16384, self.LATENT_DIM))


# --- Integers ----------------------------------------------------------------------------------


@dataclass
class Integers:
    """multiples_of_five_gan.py, or what is left of it."""

    LATENT_DIM: ClassVar[int] = multiples_of_five_gan.LATENT_DIM

    all_at_first: bool = True  # all integers are equally likely
    penalty: float = multiples_of_five_gan.PENALTY
    lr_decay: bool = True
    ema_decay: float = multiples_of_five_gan.EMA_DECAY

    def train(
        self, data: Tensor, *, seed: int = 0, progress: bool = True, epochs: int = 60
    ) -> Training:
        """The `train` of the script on the CPU, without the parts that are removed."""
        training = Training(
            data,
            seed=seed,
            epochs=epochs,
            patience=3,
            cooldown=multiples_of_five_gan.COOLDOWN,
            progress=progress,
        )
        lr = 0.04
        depth = data.shape[1]
        batch_size = min(512, len(data))
        batches = common.Batches(data, batch_size)

        generator = multiples_of_five_gan.Generator(depth)
        if not self.all_at_first:
            nn.init.normal_(generator.layer.weight)
        ema_generator = copy.deepcopy(generator).eval()
        discriminator = multiples_of_five_gan.build_discriminator(depth)
        betas = multiples_of_five_gan.BETAS
        g_optimizer = Adam(generator.parameters(), lr, betas, fused=True)
        d_optimizer = Adam(discriminator.parameters(), lr, betas, fused=True)
        ones = torch.ones(batch_size, 1)
        real_then_fake = torch.cat([ones, torch.zeros_like(ones)])
        fixed_noise = torch.randn(2048, depth)

        def step(rows: Tensor) -> Losses:
            fakes = generator(torch.randn(batch_size, depth))
            scores = discriminator(torch.cat([rows, fakes.detach()]))
            penalty = discriminator.weight.square().sum()
            d_loss = bce(scores, real_then_fake) + self.penalty * penalty
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()

            g_loss = bce(discriminator(fakes), ones)
            g_optimizer.zero_grad()
            g_loss.backward(inputs=list(generator.parameters()))
            g_optimizer.step()
            common.update_ema(ema_generator, generator, self.ema_decay)
            return d_loss, g_loss

        for _ in training.epochs():
            factor = training.lr_factor if self.lr_decay else 1.0
            common.set_lr(lr * factor, g_optimizer, d_optimizer)
            for _ in range(multiples_of_five_gan.BATCHES_PER_EPOCH):
                d_loss, g_loss = step(next(batches))
            training.evaluate(ema_generator, fixed_noise, d_loss.item(), g_loss.item())
        training.finish(ema_generator, torch.randn(16384, depth))
        real = common.one_hot_decode(data)
        training.check_missing(real, common.one_hot_decode(training.samples))
        return training


# --- Without one part, and without several -----------------------------------------------------

MOMENTUM = 0.9
POINTS = {
    "nothing": Points(),
    "standardised data": Points(standardized=False),
    "narrower far data": Points(limit=math.inf),
    "shuffled batches": Points(shuffled_batches=False),
    "Sobol noise": Points(even_noise=False),
    "uniform noise": Points(uniform_noise=False),
    "wide initial output": Points(wide_output=False),
    "Fourier features of G": Points(generator_waves=False),
    "Fourier features of D": Points(discriminator_waves=False),
    "LeakyReLU": Points(leaky=False),
    "gradient penalty": Points(penalty=0.0),
    "beta1 = 0": Points(beta1=MOMENTUM),
    "rate decay": Points(lr_decay=False),
    "EMA": Points(ema_decay=0.0),
}
INTEGERS = {
    "nothing": Integers(),
    "initial output of all integers": Integers(all_at_first=False),
    "gradient penalty": Integers(penalty=0.0),
    "rate decay": Integers(lr_decay=False),
    "EMA": Integers(ema_decay=0.0),
}
FAILURES = {
    "as it is": Points(),
    "mode collapse": Points(linear_discriminator=True, wide_output=False),
    "vanishing gradients": Points(
        saturating_loss=True,
        wide_output=False,
        generator_waves=False,
        penalty=0.0,
        beta1=MOMENTUM,
        lr_decay=False,
    ),
    "oscillation": Points(
        discriminator_waves=False, penalty=0.0, beta1=MOMENTUM, lr_decay=False, ema_decay=0.0
    ),
}
# Seeds, at most: as many as show what happens
POINT_SEEDS = {
    "exponential": 20,
    "noisy sine": 8,
    "grid of 25, deviation 0.05": 3,
    "5 scattered clusters, 1 to 20": 3,
}
INTEGER_SEEDS = {
    OWN_SET: 20,
    "50 values, five of them ten times as likely": 3,
}
FIGURES = ["excess", "off-curve", "near", "lost", "valid", "present", "KL", "warned"]
LARGEST = ["excess", "KL"]  # of these, the worst is shown too


def learn_without(part_and_name: tuple[str, str], seed: int, **settings: Any) -> Figures:
    """Figures of a training without a part, on a shape or a set."""
    part, name = part_and_name
    loop = POINTS[part] if name in SHAPES else INTEGERS[part]
    _, figures = measure.learn(name, seed, loop, **settings)
    print("without", part, name, seed, figures, flush=True)
    return figures


def ablation(parts: dict, most: dict[str, int], seeds: int, **settings: Any) -> str:
    """A table for each kind of data: what is measured without each part."""
    jobs = {(part, name): min(most[name], seeds) for name in most for part in parts}
    runs = measure.over_seeds(learn_without, jobs, **settings)
    tables = []
    for name in most:
        complete = runs["nothing", name]
        columns = measure.measured_columns([complete], FIGURES)
        rows = [[part, *measure.cells(runs[part, name], columns, LARGEST)] for part in parts]
        header = ["without", *measure.heads(columns, LARGEST)]
        title = f"**{name}**, {measure.count_seeds(complete)}\n\n"
        tables.append(title + measure.table(header, rows))
    return "\n".join(tables)


def draw_failures(path: Path, **settings: Any) -> str:
    """Draw a training with each failure; a table of the last losses and of what was checked."""
    rows = []
    pictures = []
    for name, loop in FAILURES.items():
        training, _ = measure.learn("sine", 0, loop, **settings)
        figure = common.plot(training)
        figure.suptitle(name)
        pictures.append(figure.png())
        last = training.history[-1]
        row = [
            name,
            f"{last.discriminator_loss:z.2f}",
            f"{last.generator_loss:z.2f}",
            f"{training.ratio:.2f}",
            f"{training.precision:.0%}",
            f"{training.coverage:.0%}",
            "Good" if training.converged else "WARNING",
        ]
        rows.append(row)
    measure.save_four(path, pictures)
    header = [
        "",
        "last loss of the discriminator",
        "of the generator",
        "ratio",
        "precision",
        "coverage",
        "verdict",
    ]
    return measure.table(header, rows)


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
