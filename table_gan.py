# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm", "scikit-learn"]
# ///
"""A GAN that learns a table: any CSV file with a header, of numbers and of categories.

What it learns is how the columns hang together: each number is replaced by the normal score of its
rank in its column, each category by a one-hot row, and put back at the end. In the saved generator,
a category is its place in a list; `columns`, a buffer of bytes, holds all names and lists as JSON.

    python table_gan.py                         learn measures of penguins, save in outputs/table
    python table_gan.py --data table.csv        learn a table of your own
    python table_gan.py --generate 1000         rows of the saved generator, as CSV
"""

import copy
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import one_hot
from torch.optim import Adam

import common
from common import Column, FourierFeatures, TableTraining

SPECIES = ["Adelie", "Chinstrap", "Gentoo"]
COLUMNS = [Column("bill_mm"), Column("flipper_mm"), Column("mass_kg"), Column("species", SPECIES)]
SHARES = torch.tensor([0.44, 0.2, 0.36])
MEANS = torch.tensor([[38.8, 190.0, 3.7], [48.8, 195.8, 3.73], [47.5, 217.2, 5.08]])
DEVIATIONS = torch.tensor([[2.7, 6.5, 0.46], [3.3, 7.1, 0.38], [3.1, 6.5, 0.5]])

LATENT_DIM = 32
EPOCHS, PATIENCE = 34, 30
BATCHES_PER_EPOCH, BATCH_SIZE = 45, 256
LEARNING_RATE = 0.002
BETAS = (0.0, 0.95)  # no momentum: the two would swing around each other
AVERAGING = 0.01  # share of the newest weights in the averaged generator
PENALTY = 0.3


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` penguins (n, 4): bill and flipper in mm, mass in kg, and the place of the species.

    With the means and deviations of those around Palmer Station (Gorman et al. 2014).
    """
    species = torch.multinomial(SHARES, n, replacement=True, generator=generator)
    size, own = torch.randn(n, 4, generator=generator).split([1, 3], dim=1)
    rows = MEANS[species] + DEVIATIONS[species] * (0.6 * size + 0.8 * own)
    units = torch.tensor([10, 1, 100])  # tenths, wholes, hundredths
    return torch.cat([(rows * units).round() / units, species.unsqueeze(1)], dim=1)


def layers(inputs: int, width: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    """Three hidden layers: (n, inputs) -> (n, outputs)."""
    hidden: list[nn.Module] = []
    for size in (inputs, width, width):
        hidden += [nn.Linear(size, width), activation]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


class Generator(nn.Module):
    """Standard normal noise (n, LATENT_DIM) to (n, width), like what `encode` makes of rows.

    Of a category the largest output counts. This has no slope to learn from, so while training the
    softmax's stands in for it: the straight-through estimator (Bengio et al. 2013).
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns, width = columns, sum(column.width for column in columns)
        self.inputs = min(LATENT_DIM, width)
        self.layers = layers(7 * self.inputs, 128, width, nn.ReLU())
        self.features = FourierFeatures()
        self.passing = nn.Linear(LATENT_DIM, width)

    def start_from(self, rows: Tensor) -> None:
        """Begin as a normal distribution with the correlations of rows (n, width)."""
        mean = rows.mean(dim=0)
        _, sizes, axes = torch.linalg.svd(rows - mean, full_matrices=False)
        weights = axes.T * sizes / len(rows) ** 0.5
        nn.init.zeros_(self.passing.weight)
        self.passing.weight.data[:, : weights.shape[1]] = weights[:, :LATENT_DIM]
        self.passing.bias.data = mean

    def forward(self, noise: Tensor) -> Tensor:
        out = self.passing(noise) + self.layers(self.features(noise[:, : self.inputs]))
        parts = list(out.split([column.width for column in self.columns], dim=1))
        for i, column in enumerate(self.columns):
            if column.categories:
                share = parts[i].softmax(dim=1)
                row = one_hot(share.argmax(dim=1), share.shape[1]).to(share.dtype)
                parts[i] = row + share - share.detach() if self.training else row
        return torch.cat(parts, dim=1)


def build_generator(columns: Sequence[Column] = COLUMNS) -> Generator:
    """Standard normal noise (n, LATENT_DIM) to encoded rows (n, width)."""
    return Generator(columns)


def build_discriminator(columns: Sequence[Column] = COLUMNS) -> nn.Module:
    """Encoded rows (n, width) to logits (n, 1), above zero for "real"."""
    leaky = nn.LeakyReLU(0.1)  # or units may die while there is nothing to tell apart
    return nn.Sequential(
        FourierFeatures(), layers(7 * sum(column.width for column in columns), 64, 1, leaky)
    )


@common.on_one_thread()
@common.stop_gently()
def train(
    data: Tensor,
    *,
    columns: Sequence[Column] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
    epochs: int = EPOCHS,
    patience: int = PATIENCE,
    batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> TableTraining:
    """Learn to generate rows like those of `data` (n, columns); ValueError if that cannot be.

    Columns are of numbers, unless `columns` says that they hold places in a list of categories.
    """
    common.check_rows(data)
    device = common.choose_device(device)
    columns = columns or [Column(f"x{i + 1}") for i in range(data.shape[1])]
    training = TableTraining(data, columns, seed, epochs, patience, batch_size, progress)
    batch_size = batch_size or min(BATCH_SIZE, len(data))
    batches = common.Batches(training.real.to(device), batch_size)
    noises = common.even_noise(batch_size, LATENT_DIM, device)
    generator = build_generator(columns)
    generator.start_from(training.real)
    generator = generator.to(device)
    averaged = copy.deepcopy(generator).eval()
    discriminator = build_discriminator(columns).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    is_real = torch.ones(batch_size, 1, device=device)
    both = torch.cat([is_real, torch.zeros_like(is_real)])
    latents = torch.randn(2048, LATENT_DIM, device=device)

    for epoch in training:
        done = (epoch - 1) / epochs
        rate = lr * (1 + math.cos(math.pi * done)) / 2
        g_optimizer.param_groups[0]["lr"], d_optimizer.param_groups[0]["lr"] = rate, 1.5 * rate
        for step, rows, noise in zip(range(BATCHES_PER_EPOCH), batches, noises, strict=False):
            fakes = generator(noise)

            # Discriminator step: tell real rows from generated ones
            punished = step % 4 == 0  # is enough, and faster (Karras et al. 2020)
            seen = torch.cat([rows, fakes.detach()]).requires_grad_(punished)
            scores = discriminator(seen)
            d_loss = bce(scores, both)
            if punished:
                d_loss = d_loss + PENALTY * common.gradient_penalty(scores, seen)
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()

            # Generator step: fool the discriminator
            g_loss = bce(discriminator(fakes), is_real)
            g_optimizer.zero_grad()
            g_loss.backward(inputs=list(generator.parameters()))
            g_optimizer.step()
            common.move_towards(averaged, generator, AVERAGING)

        training.evaluate(averaged, latents, d_loss, g_loss)
    return training.judged(averaged, torch.randn(16384, LATENT_DIM))


def axes(columns: Sequence[Column]) -> dict[str, str]:
    """What the axes of a picture show: the first two columns."""
    return dict(zip(("xlabel", "ylabel"), (each.name for each in columns), strict=False))


@common.reporting
def main(argv: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = common.Parser("table_gan", __doc__, train)
    about = "learn a CSV file with a header; of text, or of up to 10 values, are categories"
    parser.add_argument("--data", metavar="FILE", type=Path, help=about)
    about = "columns of numbers that are categories, in place of those of few values"
    parser.add_argument("--categories", metavar="NAME,...", type=lambda x: x.split(","), help=about)
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)

    if options.generate or options.interpolate:
        generator = common.load_model(options.out / "generator.pt", LATENT_DIM)
        columns = [
            Column(**each) for each in json.loads(bytes(dict(generator.named_buffers())["columns"]))
        ]
        if options.generate:
            common.write_table(common.generate(generator, LATENT_DIM, options), columns)
        if options.interpolate:
            rows = generator(torch.randn(2048, LATENT_DIM))
            path = generator(common.walk(options.interpolate, LATENT_DIM))
            with common.results(options.out, sys.stderr if options.generate else None) as folder:
                common.plot_path(rows, path, **axes(columns)).savefig(folder / "interpolation.png")
        return 0

    data, columns = real_samples(500), COLUMNS
    if options.data:
        data, columns = common.read_table(options.data, options.categories)
    with common.results(options.out) as folder, common.stop_gently():
        training = train(data, columns=columns, **common.training_settings(options))
        common.save_model(folder, "generator", training.generator, LATENT_DIM)
        common.save_history(folder, training)
        shown = training.samples, columns, training.history, training.best_epoch
        common.plot_table(data, *shown).savefig(folder / "samples.png")
        if options.animate:
            gif = common.animate_points(data, training.film, **axes(columns))
            (folder / "training.gif").write_bytes(gif)
    return common.conclude(training, options)


if __name__ == "__main__":
    sys.exit(main())
