# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm", "scikit-learn", "pandas>=2.2"]
# ///
"""A GAN that learns a table: numbers, dates and categories, of a CSV file or a DataFrame.

Numbers are replaced by normal scores and categories by codes, so that the GAN only has to learn the
dependence between columns. Values that a number has far too often, as -999 or zero, are categories
of it.

One category of one column is told to both networks, the "condition" of a row: the generator has to
make a row with this category, and the discriminator knows that it should have it. Rare categories
are told more often than they occur, so that they are learned as well (Xu et al. 2019).

The saved generator returns numbers and indices of categories; missing numbers are NaN, dates are
seconds. Its buffer `columns` describes them as JSON.

    python table_gan.py                                   learn penguins, save in outputs/table
    python table_gan.py --data table.csv                  learn a table of your own
    python table_gan.py --generate 100                    rows of the saved generator, as CSV
    python table_gan.py --generate 9 --where "mass_kg>5"  rows of one kind
"""

import copy
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import cli
import common
import tables
from columns import Column, Grid, to_frame
from common import fourier_mlp
from csvfile import read_table
from sampling import LATENT_DIM, SavedTable
from tables import Conditions, Table, TableTraining

SPECIES = ["Adelie", "Chinstrap", "Gentoo"]
COLUMNS = [
    Column("bill_mm", grid=Grid(decimals=1)),
    Column("flipper_mm", grid=Grid(decimals=0)),
    Column("mass_kg", grid=Grid(decimals=2)),
    Column("species", SPECIES),
]
SHARES = torch.tensor([0.44, 0.20, 0.36])  # of the species
MEANS = torch.tensor(
    [
        [38.8, 190.0, 3.70],  # Adelie: bill, flipper, mass
        [48.8, 195.8, 3.73],  # Chinstrap
        [47.5, 217.2, 5.08],  # Gentoo
    ]
)
DEVIATIONS = torch.tensor(
    [
        [2.7, 6.5, 0.46],
        [3.3, 7.1, 0.38],
        [3.1, 6.5, 0.50],
    ]
)

BATCHES_PER_EPOCH = 45
COOLDOWN = 20  # last epochs of a training, in which the learning rate falls to zero
BETAS = (0.0, 0.95)  # of Adam; with momentum (0.9, say) the two networks would chase each other
EMA_DECAY = 0.99  # of the moving average of the generator's weights
PENALTY = 0.3  # weight of the gradient penalty


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` penguins (n, 4), with means and deviations of real ones (Gorman et al. 2014)."""
    species = torch.multinomial(SHARES, n, replacement=True, generator=generator)
    # Large penguins are large in all: 0.6**2 + 0.8**2 = 1, so measures correlate by 0.36
    size = torch.randn(n, 1, generator=generator)
    own = torch.randn(n, 3, generator=generator)
    measures = MEANS[species] + DEVIATIONS[species] * (0.6 * size + 0.8 * own)
    units = torch.tensor([10, 1, 100])  # tenths, wholes, hundredths
    measures = (measures * units).round() / units
    return torch.cat([measures, species.unsqueeze(1)], dim=1)


class Generator(nn.Module):
    """Noise (n, LATENT_DIM) to encoded rows (n, width), with exact categories in eval mode."""

    def __init__(self, conditions: Conditions) -> None:
        super().__init__()
        width = conditions.codes.shape[1]
        self.conditions = conditions
        self.noise_inputs = min(LATENT_DIM - 1, width)
        self.layers = fourier_mlp(
            self.noise_inputs + conditions.inputs.shape[1], 128, width, nn.ReLU()
        )
        # Makes the initial distribution of each number right
        self.skip = nn.Linear(LATENT_DIM - 1, width, bias=False)
        nn.init.eye_(self.skip.weight)

    def forward(self, noise: Tensor, chosen: Tensor | None = None) -> Tensor:
        # The condition, an index (n,): unless it is given, the last number of the noise chooses it
        if chosen is None:
            chosen = self.conditions.choose(noise[:, -1])
        # The layers see as many numbers of noise as a row has, and the code of the condition
        inputs = [noise[:, : self.noise_inputs], self.conditions.inputs[chosen]]
        rows = self.skip(noise[:, :-1]) + self.layers(torch.cat(inputs, dim=1))
        # Categories become exact once the generator is in use
        if not self.training:
            rows = self.conditions.snap(rows)
        # The category of the condition stays as it was told
        return torch.where(self.conditions.fixed[chosen], self.conditions.codes[chosen], rows)

    def calibrate(self, noise: Tensor) -> None:
        """Make categories as frequent as in the data, with noise (n, LATENT_DIM)."""
        chosen = self.conditions.choose(noise[:, -1])
        rows = self.train()(noise, chosen)
        self.conditions.calibrate(rows, chosen)
        self.eval()


def build_discriminator(width: int) -> nn.Module:
    """Encoded rows with the codes of conditions (n, width) to logits (n, 1), above 0 for "real"."""
    return fourier_mlp(width, 64, 1, nn.LeakyReLU(0.1))


@common.isolated
def train(
    data: Any,
    *,
    types: Mapping[str, str] | None = None,
    seed: int | None = 0,
    device: str | torch.device = "auto",
    epochs: int = 60,
    patience: int = 8,
    batch_size: int = 256,
    lr: float = 0.002,
    progress: bool = True,
) -> TableTraining:
    """Learn a DataFrame, rows of numbers (n, columns), or a Table; InputError if that cannot be.

    `types` gives the kinds of some columns by name, see tables.Table. The training has
    `sample(n, where={column: wanted})`, a DataFrame of the same columns, without IDs.
    """
    device = common.choose_device(device)
    table = data if isinstance(data, Table) else Table(data, types)
    training = TableTraining(
        table, seed=seed, epochs=epochs, patience=patience, cooldown=COOLDOWN, progress=progress
    )
    conditions = copy.deepcopy(table.conditions).to(device)
    train_rows = table.rows[~training.held_out]
    train_indices = table.indices[~training.held_out]
    batches = tables.AugmentedBatches(train_rows, train_indices, conditions, batch_size)
    noises = common.even_noise(batch_size, LATENT_DIM, device)

    generator = Generator(conditions).to(device)
    ema_generator = copy.deepcopy(generator).eval()  # with averaged weights, which waver less
    inputs = table.rows.shape[1] + conditions.inputs.shape[1]
    discriminator = build_discriminator(inputs).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    real = torch.ones(batch_size, 1, device=device)  # what the discriminator should say
    real_then_fake = torch.cat([real, torch.zeros_like(real)])
    fixed_noise = torch.randn(2048, LATENT_DIM, device=device)

    # A function, so that a GPU can record it, and replay it without Python
    @common.cuda_graph(device, g_optimizer, d_optimizer)
    def step(
        rows: Tensor, chosen: Tensor, noise: Tensor, *, apply_penalty: bool
    ) -> tuple[Tensor, Tensor]:
        fakes = generator(noise, chosen)
        condition = conditions.inputs[chosen]

        # Discriminator step: tell real rows from generated ones
        seen = torch.cat([rows, fakes.detach()]).requires_grad_(apply_penalty)
        scores = discriminator(torch.cat([seen, condition.repeat(2, 1)], dim=1))
        d_loss = bce(scores, real_then_fake)
        if apply_penalty:
            d_loss = d_loss + PENALTY * common.gradient_penalty(scores, seen)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator, which stays as it is
        g_loss = bce(discriminator(torch.cat([fakes, condition], dim=1)), real)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for _ in training.epochs():
            common.set_lr(lr * training.lr_factor, g_optimizer)
            common.set_lr(1.5 * lr * training.lr_factor, d_optimizer)  # it has to keep up
            for i in range(BATCHES_PER_EPOCH):
                rows, chosen = next(batches)
                # The penalty in every fourth step is enough (Karras et al. 2020)
                d_loss, g_loss = step(rows, chosen, next(noises), apply_penalty=i % 4 == 0)
            training.evaluate(ema_generator, fixed_noise, d_loss.item(), g_loss.item())
    return training.finish(ema_generator, torch.randn(16384, LATENT_DIM), **tables.LIMITS)


def load(folder: str | Path) -> SavedTable:
    """The generator saved in a folder (--out), which has `sample(n, where={column: wanted})`.

    Failure if it cannot be read. See SavedTable.sample for the dtypes.
    """
    tables.require_packages()
    return SavedTable(Path(folder))


@cli.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train)
    options = tables.parse_options(parser, argv)
    torch.set_num_threads(1)  # faster for networks as small as these
    if options.generate or options.interpolate:
        return tables.use_saved(options)

    if options.data:
        frame = read_table(options.data, options.encoding)
    else:
        penguins = real_samples(500, common.random_generator("data", options.seed))
        frame = to_frame(penguins, COLUMNS)
    table = Table(frame, options.types)
    print(table)
    training = train(table, **parser.settings(options))
    cli.save(options, training, LATENT_DIM, generator=training.generator)
    cli.save_picture(options, "samples.png", tables.plot_table(training))
    if options.animate:
        cli.save_picture(options, "training.gif", tables.animate_table(training))
    return cli.report(options, training)


if __name__ == "__main__":
    sys.exit(main())
