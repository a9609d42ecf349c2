# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm", "scikit-learn"]
# ///
"""A GAN that learns a table: any CSV file with a header, with numeric and categorical columns.

Numbers are replaced by normal scores and categories by codes, so that the GAN learns only the
dependence between columns. The saved generator returns numbers and category indices; its buffer
`columns` holds names and categories as JSON.

    python table_gan.py                         learn measures of penguins, save in outputs/table
    python table_gan.py --data table.csv        learn a table of your own
    python table_gan.py --generate 1000         rows of the saved generator, as CSV
"""

import copy
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import common
import tables
from common import FourierFeatures, Training
from tables import Column

SPECIES = ["Adelie", "Chinstrap", "Gentoo"]
COLUMNS = [Column("bill_mm"), Column("flipper_mm"), Column("mass_kg"), Column("species", SPECIES)]
SHARES = torch.tensor([0.44, 0.2, 0.36])
MEANS = torch.tensor([[38.8, 190.0, 3.7], [48.8, 195.8, 3.73], [47.5, 217.2, 5.08]])
DEVIATIONS = torch.tensor([[2.7, 6.5, 0.46], [3.3, 7.1, 0.38], [3.1, 6.5, 0.5]])

LATENT_DIM, BATCHES_PER_EPOCH, BATCH_SIZE = 32, 45, 256
EPOCHS, PATIENCE, COOLDOWN = 60, 3, 20  # the learning rate decays over the last
LEARNING_RATE = 0.002  # of the generator; the discriminator's is 1.5 times as high, to keep up
BETAS = (0.0, 0.95)  # beta1 = 0: with momentum the two networks oscillate
EMA_DECAY = 0.99  # of the moving average of the weights
PENALTY = 0.3  # on the discriminator's slope


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
    """Sines and cosines, then three hidden layers: (n, inputs) -> (n, outputs)."""
    hidden: list[nn.Module] = []
    for size in (7 * inputs, width, width):
        hidden += [nn.Linear(size, width), activation]
    return nn.Sequential(FourierFeatures(), *hidden, nn.Linear(width, outputs))


class Generator(nn.Module):
    """Standard normal noise (n, LATENT_DIM) to encoded rows (n, width).

    A skip connection makes the initial distribution of each number right.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inputs = min(LATENT_DIM, width)
        self.layers = layers(self.inputs, 128, width, nn.ReLU())
        self.skip = nn.Linear(LATENT_DIM, width, bias=False)
        nn.init.eye_(self.skip.weight)

    def forward(self, noise: Tensor) -> Tensor:
        return self.skip(noise) + self.layers(noise[:, : self.inputs])


def build_generator(width: int = 6) -> nn.Module:
    """Standard normal noise (n, LATENT_DIM) to encoded rows (n, width)."""
    return Generator(width)


def build_discriminator(width: int = 6) -> nn.Module:
    """Encoded rows (n, width) to logits (n, 1), above zero for "real"."""
    return layers(width, 64, 1, nn.LeakyReLU(0.1))


@common.torch_defaults(threads=1)
def train(
    data: Tensor, *, columns: Sequence[Column] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
    epochs: int = EPOCHS,
    patience: int = PATIENCE,
    batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> Training:  # fmt: skip
    """Learn to generate rows like those of `data` (n, columns); ValueError if that cannot be.

    Columns are of numbers, unless `columns` says that they hold places in a list of categories.
    """
    device = common.choose_device(device)
    cells, columns = tables.check(data, columns)
    rows = tables.encode(cells, columns)
    training = Training(
        rows, seed=seed, epochs=epochs, patience=patience, batch_size=batch_size,
        progress=progress, cooldown=COOLDOWN, is_held_out=tables.hold_out(len(rows), seed),
        max_off_data=0.2, max_missed=0.05,  # neighbours are far apart in many dimensions
        min_rows=200,  # a forest sees nothing among the few rows held out of smaller tables
    )  # fmt: skip
    batch_size, width = batch_size or BATCH_SIZE, rows.shape[1]
    batches = tables.NeighbourhoodBatches(training.train_rows.to(device), batch_size, columns)
    noise_batches = common.sobol_noise(batch_size, LATENT_DIM, device)
    generator = build_generator(width).to(device)
    ema_generator = copy.deepcopy(generator)
    learned = nn.Sequential(ema_generator, tables.SnapCategories(columns))
    discriminator = build_discriminator(width).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 1, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    fixed_noise = torch.randn(2048, LATENT_DIM, device=device)

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for _ in training.epochs():
            rate = lr * training.stopping.lr_factor
            g_optimizer.param_groups[0]["lr"], d_optimizer.param_groups[0]["lr"] = rate, 1.5 * rate
            steps = zip(range(BATCHES_PER_EPOCH), batches, noise_batches, strict=False)
            for step, rows, noise in steps:
                fakes = generator(noise)

                # Discriminator step: tell real rows from generated ones
                apply_penalty = step % 4 == 0  # lazy, same weight (StyleGAN2, Karras et al. 2020)
                seen = torch.cat([rows, fakes.detach()]).requires_grad_(apply_penalty)
                scores = discriminator(seen)
                d_loss = bce(scores, labels)
                if apply_penalty:
                    d_loss = d_loss + PENALTY * common.gradient_penalty(scores, seen)
                d_optimizer.zero_grad()
                d_loss.backward()
                d_optimizer.step()

                # Generator step: fool the discriminator
                g_loss = bce(discriminator(fakes), ones)
                g_optimizer.zero_grad()
                g_loss.backward(inputs=list(generator.parameters()))
                g_optimizer.step()
                common.update_ema(ema_generator, generator, EMA_DECAY)

            training.evaluate(learned, fixed_noise, d_loss, g_loss)
    training.finish(learned, torch.randn(16384, LATENT_DIM))
    return tables.judge(training, cells, columns)


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    about = "train on a CSV file with a header; text, or up to 10 numbers, are categories"
    parser.add_argument("--data", metavar="FILE", type=Path, help=about)
    about = "numeric columns to treat as categories, instead of those with few numbers"
    parser.add_argument("--categories", metavar="NAME,...", type=lambda x: x.split(","), help=about)
    options = parser.parse_args(argv)

    if options.generate or options.interpolate:
        generator = common.load_model(options.out / "generator.pt", LATENT_DIM)
        columns = tables.columns_of(generator)
        if options.generate:
            tables.write_table(common.generate(generator, LATENT_DIM, options), columns)
        if options.interpolate:
            random = common.stream("walk", options.seed)
            rows = generator(torch.randn(2048, LATENT_DIM, generator=random))
            path = generator(common.interpolate(options.interpolate, LATENT_DIM, generator=random))
            shown = rows, path, *[each.name for each in columns[:2]]
            messages = sys.stderr if options.generate else None
            with common.output_folder(options.out, messages) as folder:
                walk = common.plot_interpolation, *shown
                common.save_picture(folder / "interpolation.png", *walk)
        return 0

    own = real_samples(500, common.stream("data", options.seed)), COLUMNS
    data, columns = tables.read_table(options.data, options.categories) if options.data else own
    with common.output_folder(options.out) as folder:
        training = train(data, columns=columns, **common.training_settings(options))
        common.save(folder, training, LATENT_DIM)
        figure = tables.plot_table, data, columns, training
        common.save_picture(folder / "samples.png", *figure)
        if options.animate:
            film = data, training.snapshots, *[each.name for each in columns[:2]]
            common.save_picture(folder / "training.gif", common.animate_points, *film)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
