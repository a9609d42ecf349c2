# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm", "scikit-learn", "pandas>=2.2"]
# ///
"""A GAN that learns a table: numbers, dates and categories, of a CSV file or a DataFrame.

Numbers are replaced by normal scores and categories by codes, so that the GAN only has to learn the
dependence between columns. Both networks get a category of a random column as a condition, rare
ones more often than they occur (Xu et al. 2019). The saved generator returns numbers and category
indices; missing numbers are NaN, dates are seconds. Its buffer `columns` describes them as JSON.

    python table_gan.py                                   learn penguins, save in outputs/table
    python table_gan.py --data table.csv                  learn a table of your own
    python table_gan.py --generate 100                    rows of the saved generator, as CSV
    python table_gan.py --generate 100 --where sex=f      rows of one kind
"""

import copy
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import common
import tables
from common import Training, fourier_mlp
from tables import LATENT_DIM, Column, Conditions, Table

SPECIES = ["Adelie", "Chinstrap", "Gentoo"]
COLUMNS = [Column("bill_mm", decimals=1), Column("flipper_mm", decimals=0),
           Column("mass_kg", decimals=2), Column("species", SPECIES)]  # fmt: skip
SHARES = torch.tensor([0.44, 0.2, 0.36])
MEANS = torch.tensor([[38.8, 190.0, 3.7], [48.8, 195.8, 3.73], [47.5, 217.2, 5.08]])
DEVIATIONS = torch.tensor([[2.7, 6.5, 0.46], [3.3, 7.1, 0.38], [3.1, 6.5, 0.5]])

BATCHES_PER_EPOCH, BATCH_SIZE = 45, 256
EPOCHS, PATIENCE, COOLDOWN = 60, 3, 20  # the learning rate decays over the last
LEARNING_RATE = 0.002  # of the generator; the discriminator's is 1.5 times as high, to keep up
BETAS = (0.0, 0.95)  # beta1 = 0: with momentum the two networks oscillate
EMA_DECAY = 0.99  # of the moving average of the weights
PENALTY = 0.3  # weight of the gradient penalty
LIMITS: dict = {"min_rows": tables.MIN_ROWS, "min_precision": 0.8, "min_coverage": 0.95}


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` penguins (n, 4), with means and deviations of real ones (Gorman et al. 2014)."""
    species = torch.multinomial(SHARES, n, replacement=True, generator=generator)
    size, own = torch.randn(n, 4, generator=generator).split([1, 3], dim=1)
    rows = MEANS[species] + DEVIATIONS[species] * (0.6 * size + 0.8 * own)
    units = torch.tensor([10, 1, 100])  # tenths, wholes, hundredths
    return torch.cat([(rows * units).round() / units, species.unsqueeze(1)], dim=1)


class Generator(nn.Module):
    """Noise (n, LATENT_DIM) to encoded rows (n, width), with exact categories in eval mode."""

    def __init__(self, conditions: Conditions | None = None) -> None:
        super().__init__()
        self.conditions = conditions or Conditions(COLUMNS, SHARES)
        width, inputs = self.conditions.codes.shape[1], self.conditions.inputs.shape[1]
        self.inputs = min(LATENT_DIM - 1, width)
        self.layers = fourier_mlp(self.inputs + inputs, 128, width, nn.ReLU())
        # Makes the initial distribution of each number right
        self.skip = nn.Linear(LATENT_DIM - 1, width, bias=False)
        nn.init.eye_(self.skip.weight)

    def forward(self, noise: Tensor, chosen: Tensor | None = None) -> Tensor:
        chosen = self.conditions.choose(noise[:, -1]) if chosen is None else chosen
        inputs = torch.cat([noise[:, : self.inputs], self.conditions.inputs[chosen]], dim=1)
        rows = self.skip(noise[:, :-1]) + self.layers(inputs)
        rows = rows if self.training else self.conditions.snap(rows)
        return torch.where(self.conditions.fixed[chosen], self.conditions.codes[chosen], rows)


build_generator = Generator


def build_discriminator(width: int = 9) -> nn.Module:
    """Encoded rows and conditions (n, width) to logits (n, 1), above zero for "real"."""
    return fourier_mlp(width, 64, 1, nn.LeakyReLU(0.1))


@common.torch_defaults(threads=1)
def train(
    data: Any, *, types: Mapping[str, str] | None = None, seed: int = 0,
    device: str | torch.device = "cpu", progress: bool = True, epochs: int = EPOCHS,
    patience: int = PATIENCE, batch_size: int | None = None, lr: float = LEARNING_RATE,
) -> Training:  # fmt: skip
    """Learn a DataFrame, or rows of numbers (n, columns); ValueError if that cannot be.

    `types` gives the kinds of some columns. `training.sample(n, where={column: category})` is a
    DataFrame of the same columns, without IDs.
    """
    device = common.choose_device(device)
    table = data if isinstance(data, Table) else Table(data, types)
    training = Training(table.rows, seed=seed, epochs=epochs, patience=patience, cooldown=COOLDOWN,
                        batch_size=batch_size, progress=progress)  # fmt: skip
    batch_size, held_out = batch_size or BATCH_SIZE, tables.hold_out(len(table.rows), seed)
    conditions = table.conditions.to(device)
    batches = tables.augmented_batches(table, ~held_out, batch_size, device)
    noise_batches = common.sobol_noise(batch_size, LATENT_DIM, device)
    generator = build_generator(conditions).to(device)
    ema_generator = copy.deepcopy(generator).eval()
    discriminator = build_discriminator(table.rows.shape[1] + conditions.inputs.shape[1]).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 1, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    fixed_noise = torch.randn(2048, LATENT_DIM, device=device)

    @common.recorded(device)  # as a CUDA graph, on a GPU
    def step(
        rows: Tensor, chosen: Tensor, noise: Tensor, apply_penalty: bool
    ) -> tuple[Tensor, Tensor]:
        fakes, condition = generator(noise, chosen), conditions.inputs[chosen]

        # Discriminator step: tell real rows from generated ones
        seen = torch.cat([rows, fakes.detach()]).requires_grad_(apply_penalty)
        scores = discriminator(torch.cat([seen, condition.repeat(2, 1)], dim=1))
        d_loss = bce(scores, labels)
        if apply_penalty:  # lazy regularization (Karras et al. 2020)
            d_loss = d_loss + PENALTY * common.gradient_penalty(scores, seen)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator
        g_loss = bce(discriminator(torch.cat([fakes, condition], dim=1)), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))  # only its own gradients
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for _ in training.epochs():
            common.set_lr(lr * training.stopping.lr_factor, g_optimizer)
            common.set_lr(1.5 * lr * training.stopping.lr_factor, d_optimizer)
            steps = zip(range(BATCHES_PER_EPOCH), batches, noise_batches, strict=False)
            for i, (points, chosen), noise in steps:
                d_loss, g_loss = step(points, chosen, noise, apply_penalty=i % 4 == 0)
            training.evaluate(ema_generator, fixed_noise, d_loss, g_loss)
    training.finish(ema_generator, torch.randn(16384, LATENT_DIM), **LIMITS)
    tables.judge(training, table, held_out)
    return training


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    options = tables.parse_options(parser, argv)
    if options.generate or options.interpolate:
        return tables.use_generator(options)

    penguins = real_samples(500, common.stream("data", options.seed))
    frame = tables.read_table(options.data) if options.data else tables.to_frame(penguins, COLUMNS)
    print(table := Table(frame, options.types))
    with common.output_folder(options.out) as folder:
        training = train(table, **parser.settings(options))
        common.save(folder, training, LATENT_DIM, generator=training.generator)
        common.save_picture(folder / "samples.png", tables.plot_table, table, training)
        if options.animate:
            names = [column.name for column in table.columns[:2]]
            common.save_picture(folder / "training.gif", common.animate_points, training, *names)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
