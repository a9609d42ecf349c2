# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A GAN that learns a sine: points on y = sin(x), x from -5 to 5.

The generator turns two random numbers into a point (x, y). It never sees the curve: it learns only
from how well its points fool the discriminator, which learns to tell them from real ones.

    python sine_gan.py                     train, and save in outputs/sine
    python sine_gan.py --generate 1000     points of the saved generator, as CSV
"""

import copy
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import cli
import common
from common import Training, fourier_mlp

X_MIN = -5.0
X_MAX = 5.0
COLUMNS = ["x", "y"]

LATENT_DIM = 2  # random numbers for one point; at least as many as the data have columns
BATCHES_PER_EPOCH = 45  # an epoch is not one pass over the data, but so many steps
COOLDOWN = 20  # the last epochs, in which the learning rate falls to zero
BETAS = (0.0, 0.95)  # of Adam: no momentum, with which the two networks would chase each other
EMA_DECAY = 0.99  # of the moving average of the generator's weights
PENALTY = 0.3  # for a steep discriminator; without it some curves fail, a larger one blurs
UNIFORM_MAX = 3**0.5  # numbers that are uniform between -this and this have standard deviation 1


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Returns `n` points (n, 2) on the curve; x is uniform."""
    x = X_MIN + (X_MAX - X_MIN) * torch.rand(n, generator=generator)
    return torch.stack([x, x.sin()], dim=1)


class Generator(nn.Module):
    """Turns standard normal noise (n, latent_dim) into standardised points (n, columns)."""

    def __init__(self, latent_dim: int, columns: int) -> None:
        super().__init__()
        self.layers = fourier_mlp(latent_dim, 128, columns, nn.ReLU())
        # At first each point is its noise: a cloud as wide as the data. A narrow one might stay so
        self.skip = nn.Linear(latent_dim, columns, bias=False)
        nn.init.eye_(self.skip.weight)

    def forward(self, noise: Tensor) -> Tensor:
        # Normal noise, as textbooks have it, becomes uniform by the error function: its rare large
        # values would become stray points
        uniform = UNIFORM_MAX * torch.erf(noise / 2**0.5)
        return self.skip(uniform) + self.layers(uniform)


def build_discriminator(columns: int) -> nn.Module:
    """Turns standardised points (n, columns) into logits (n, 1), above zero for "real"."""
    return fourier_mlp(columns, 64, 1, nn.LeakyReLU(0.1))


@common.isolated
def train(
    data: Tensor,
    *,
    seed: int | None = 0,
    device: str | torch.device = "auto",
    epochs: int = 60,
    patience: int = 3,
    batch_size: int = 256,
    lr: float = 0.004,
    progress: bool = True,
) -> Training:
    """Trains a GAN on `data` (n, columns), in any units.

    After `patience` epochs without progress the learning rate falls for COOLDOWN epochs; then
    training ends. Raises InputError if the data or a setting are invalid.
    """
    device = common.choose_device(device)
    rows, notes = common.prepare_rows(data, COLUMNS)
    training = Training(
        rows,
        notes=notes,
        seed=seed,
        epochs=epochs,
        patience=patience,
        cooldown=COOLDOWN,
        progress=progress,
    )
    columns = rows.shape[1]
    latent_dim = max(LATENT_DIM, columns)
    batch_size = min(batch_size, len(rows))
    # The data get the range of the uniform noise, where the generator starts
    standardize = common.Standardize(rows, limit=UNIFORM_MAX)
    batches = common.Batches(standardize(rows).to(device), batch_size)
    noises = common.even_noise(batch_size, latent_dim, device)

    generator = Generator(latent_dim, columns).to(device)
    ema_generator = copy.deepcopy(generator)  # with a moving average of the weights: it wavers less
    discriminator = build_discriminator(columns).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 1, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])  # of real points, then of generated ones

    # The averaged generator, and then back to the units of the data: measured, kept and saved
    data_generator = nn.Sequential(ema_generator, standardize.inverse())
    fixed_noise = torch.randn(1024, latent_dim, device=device)  # so that epochs can be compared

    # One step: a function, as the decorator makes it faster on a GPU. On a CPU it does nothing
    @common.cuda_graph(device, g_optimizer, d_optimizer)
    def step(points: Tensor, noise: Tensor, *, apply_penalty: bool) -> tuple[Tensor, Tensor]:
        fakes = generator(noise)  # for both networks

        # Discriminator step: tell real points from generated ones
        seen = torch.cat([points, fakes.detach()])
        seen.requires_grad_(apply_penalty)  # the penalty is on the gradient at these points
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
        g_loss.backward(inputs=list(generator.parameters()))  # not the discriminator's gradients
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C ends the loop; the best generator so far is kept
        for _ in training.epochs():
            common.set_lr(lr * training.lr_factor, g_optimizer, d_optimizer)
            for i in range(BATCHES_PER_EPOCH):
                # The penalty in every fourth step is enough (Karras et al. 2020)
                d_loss, g_loss = step(next(batches), next(noises), apply_penalty=i % 4 == 0)
            training.evaluate(data_generator, fixed_noise, d_loss.item(), g_loss.item())
    return training.finish(data_generator, torch.randn(16384, latent_dim))


@cli.command
def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train)  # with an option for each setting of `train`
    help_text = "learn the points in a CSV file, two numbers a line"
    parser.add_argument("--data", metavar="FILE", type=Path, help=help_text)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # faster, for networks as small as these
    if options.generate or options.interpolate:
        return cli.use_generator(options, LATENT_DIM, COLUMNS)

    if options.data:
        data = cli.read_numbers(options.data, columns=len(COLUMNS))
    else:
        data = real_samples(2048, common.random_generator("data", options.seed))
    training = train(data, **parser.settings(options))
    draw = partial(common.draw_points, names=COLUMNS)
    cli.save(options, training, training.latent_dim, generator=training.generator)
    cli.save_picture(options, "samples.png", common.plot(training, draw))
    if options.animate:
        cli.save_picture(options, "training.gif", common.animate(training, draw))
    return cli.report(options, training)


if __name__ == "__main__":
    sys.exit(main())
