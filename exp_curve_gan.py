# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A GAN that learns an exponential curve: points on y = 1.08**x, x from 0 to 50.

The generator turns two random numbers into a point (x, y). It never sees the curve: it learns only
from how well its points fool the discriminator, which learns to tell them from real ones.

    python exp_curve_gan.py                     train, and save in outputs/exp_curve
    python exp_curve_gan.py --generate 1000     points of the saved generator, as CSV
"""

import copy
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import cli
import common
from common import Training, fourier_mlp

X_MIN = 0.0
X_MAX = 50.0
BASE = 1.08
COLUMNS = ["x", "y"]

LATENT_DIM = 2  # random numbers that become a point
BATCHES_PER_EPOCH = 45
COOLDOWN = 20  # last epochs of a training, in which the learning rate falls to zero
BETAS = (0.0, 0.95)  # of Adam; with momentum (0.9, say) the two networks would chase each other
EMA_DECAY = 0.99  # of the moving average of the generator's weights
PENALTY = 0.3  # weight of the gradient penalty: more blurs the points, less distorts their density
MAX_UNIFORM = 3**0.5  # uniform numbers up to this have standard deviation 1


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` points (n, 2) on the curve, x uniform."""
    x = X_MIN + (X_MAX - X_MIN) * torch.rand(n, generator=generator)
    return torch.stack([x, BASE**x], dim=1)


class Generator(nn.Module):
    """Standard normal noise (n, LATENT_DIM) to standardised points (n, columns)."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.layers = fourier_mlp(LATENT_DIM, 128, columns, nn.ReLU())
        # Makes the first points as wide as the data: a narrow cloud might stay narrow
        self.skip = nn.Linear(LATENT_DIM, columns, bias=False)
        nn.init.eye_(self.skip.weight)

    def forward(self, noise: Tensor) -> Tensor:
        # From normal to uniform: the rare values in normal noise would become stray points
        uniform = MAX_UNIFORM * torch.erf(noise / 2**0.5)
        return self.skip(uniform) + self.layers(uniform)


def build_discriminator(columns: int) -> nn.Module:
    """Standardised points (n, columns) to logits (n, 1), above zero for "real"."""
    return fourier_mlp(columns, 64, 1, nn.LeakyReLU(0.1))


def train(
    data: Tensor,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    epochs: int = 60,
    patience: int = 3,
    batch_size: int = 256,
    lr: float = 0.004,
    progress: bool = True,
) -> Training:
    """Learn to generate rows like those of `data` (n, columns), in any units; or InputError."""
    device = common.choose_device(device)
    rows = common.as_rows(data)
    training = Training(
        rows, seed=seed, epochs=epochs, patience=patience, cooldown=COOLDOWN, progress=progress
    )
    columns = rows.shape[1]
    batch_size = min(batch_size, len(rows))
    standardize = common.Standardize(rows, max_std=MAX_UNIFORM)
    batches = common.Batches(standardize(rows).to(device), batch_size)
    noises = common.even_noise(batch_size, LATENT_DIM, device)

    generator = Generator(columns).to(device)
    ema_generator = copy.deepcopy(generator)  # with averaged weights, which waver less
    discriminator = build_discriminator(columns).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    real = torch.ones(batch_size, 1, device=device)  # what the discriminator should say
    real_then_fake = torch.cat([real, torch.zeros_like(real)])

    # What is measured, kept and saved: noise to points in the units of the data
    result = nn.Sequential(ema_generator, standardize.inverse())
    fixed_noise = torch.randn(1024, LATENT_DIM, device=device)

    # A function, so that a GPU can record it, and replay it without Python
    @common.cuda_graph(device, g_optimizer, d_optimizer)
    def step(points: Tensor, noise: Tensor, *, apply_penalty: bool) -> tuple[Tensor, Tensor]:
        fakes = generator(noise)

        # Discriminator step: tell real points from generated ones
        seen = torch.cat([points, fakes.detach()]).requires_grad_(apply_penalty)
        scores = discriminator(seen)
        d_loss = bce(scores, real_then_fake)
        if apply_penalty:
            d_loss = d_loss + PENALTY * common.gradient_penalty(scores, seen)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator, which stays as it is
        g_loss = bce(discriminator(fakes), real)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for _ in training.epochs():
            common.set_lr(lr * training.lr_factor, g_optimizer, d_optimizer)
            for i in range(BATCHES_PER_EPOCH):
                every_fourth = i % 4 == 0  # is enough (Karras et al. 2020)
                d_loss, g_loss = step(next(batches), next(noises), apply_penalty=every_fourth)
            training.evaluate(result, fixed_noise, d_loss.item(), g_loss.item())
    return training.finish(result, torch.randn(16384, LATENT_DIM))


@cli.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train)
    parser.add_argument("--data", metavar="FILE", type=Path, help="learn the points of a CSV file")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # faster, for networks as small as these
    if options.generate or options.interpolate:
        return cli.use_generator(options, LATENT_DIM, COLUMNS)

    data = real_samples(2048, common.random_numbers("data", options.seed))
    if options.data:
        data = cli.read_numbers(options.data, columns=len(COLUMNS))
    training = train(data, **parser.settings(options))
    cli.save(options, training, LATENT_DIM, generator=training.generator)
    cli.save_picture(options, "samples.png", common.plot(training))
    if options.animate:
        cli.save_picture(options, "training.gif", common.animate(training))
    return cli.report(options, training)


if __name__ == "__main__":
    sys.exit(main())
