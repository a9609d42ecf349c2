# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A Wasserstein GAN that learns a ring of eight clusters; its loss estimates the distance to them.

A critic takes the discriminator's place. A penalty keeps the norm of its gradient near 1, so the
gap between the scores of real and generated points estimates how far apart they are (Arjovsky et
al. 2017). The loss of a plain GAN does not.

    python wgan.py                     train, and save in outputs/wgan
    python wgan.py --generate 1000     points of the saved generator, as CSV
"""

import copy
import math
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Adam

import cli
import common
from common import Figure, Training, fourier_mlp

CLUSTERS = 8
RADIUS = 2.0  # of the ring
DEVIATION = 0.05  # of the points of a cluster from its centre
COLUMNS = ["x", "y"]

LATENT_DIM = 2  # how many random numbers become one point; of more columns, as many as these
BATCHES_PER_EPOCH = 40  # an epoch is not one pass over the data, but so many steps
CRITIC_STEPS = 2  # per generator step, so that the estimate keeps up
COOLDOWN = 20  # the last epochs, in which the learning rate falls to zero
BETAS = (0.0, 0.95)  # of Adam: no momentum, with which the two networks would chase each other
EMA_DECAY = 0.98  # of the moving average of the generator's weights
PENALTY = 0.2  # weight of the penalty on gradients of the critic whose norm is not 1


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Returns `n` points (n, 2) in eight round clusters on a ring, each as likely."""
    angle = 2 * math.pi / CLUSTERS * torch.randint(CLUSTERS, (n,), generator=generator)
    centres = RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)
    return centres + DEVIATION * torch.randn(n, 2, generator=generator)


class Uniform(nn.Module):
    """Turns normal noise into uniform noise, of mean 0 and standard deviation 1.

    The rare large values of normal noise would become stray points.
    """

    def forward(self, noise: Tensor) -> Tensor:
        return 3**0.5 * torch.erf(noise / 2**0.5)


def build_generator(latent_dim: int, columns: int) -> nn.Module:
    """Turns standard normal noise (n, latent_dim) into standardised points (n, columns)."""
    return nn.Sequential(Uniform(), fourier_mlp(latent_dim, 128, columns, nn.ReLU()))


def build_discriminator(columns: int) -> nn.Module:
    """The critic: turns standardised points (n, columns) into scores (n, 1), high for real ones."""
    return fourier_mlp(columns, 64, 1, nn.LeakyReLU(0.1))


def slope_penalty(critic: nn.Module, points: Tensor, fakes: Tensor) -> Tensor:
    """The penalty of WGAN-GP, between real and generated points (Gulrajani et al. 2017)."""
    share = torch.rand_like(points[:, :1])
    between = (share * points + (1 - share) * fakes).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slopes.norm(dim=1) - 1).square().mean()


@common.isolated
def train(
    data: Tensor,
    *,
    seed: int | None = 0,
    device: str | torch.device = "auto",
    epochs: int = 60,
    patience: int = 3,
    batch_size: int = 256,
    lr: float = 0.005,
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
    standardize = common.Standardize(rows)
    real = standardize(rows).to(device)
    batches = common.Batches(real, batch_size)
    noises = common.even_noise(batch_size, latent_dim, device)

    generator = build_generator(latent_dim, columns).to(device)
    ema_generator = copy.deepcopy(generator)  # with a moving average of the weights: it wavers less
    critic = build_discriminator(columns).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    c_optimizer = Adam(critic.parameters(), lr, BETAS, fused=True)

    # The averaged generator, and then back to the units of the data: measured, kept and saved
    data_generator = nn.Sequential(ema_generator, standardize.inverse())
    fixed_noise = torch.randn(1024, latent_dim, device=device)  # so that epochs can be compared

    # Steps are functions, as the decorator makes them faster on a GPU. On a CPU it does nothing
    @common.cuda_graph(device, c_optimizer)
    def critic_step(points: Tensor, noise: Tensor, *, apply_penalty: bool) -> None:
        """Score real points higher than generated ones."""
        with torch.no_grad():
            fakes = generator(noise)
        c_loss = critic(fakes).mean() - critic(points).mean()
        if apply_penalty:
            c_loss = c_loss + PENALTY * slope_penalty(critic, points, fakes)
        c_optimizer.zero_grad()
        c_loss.backward()
        c_optimizer.step()

    @common.cuda_graph(device, g_optimizer)
    def generator_step(noise: Tensor) -> Tensor:
        """Make generated points score higher."""
        g_loss = -critic(generator(noise)).mean()
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))  # not the critic's gradients
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C ends the loop; the best generator so far is kept
        for _ in training.epochs():
            common.set_lr(lr * training.lr_factor, g_optimizer, c_optimizer)
            for _ in range(BATCHES_PER_EPOCH):
                for i in range(CRITIC_STEPS):
                    critic_step(next(batches), next(noises), apply_penalty=i == 0)
                g_loss = generator_step(next(noises))
            with torch.no_grad():  # of the averaged generator, which the critic has not seen
                c_loss = critic(ema_generator(fixed_noise)).mean() - critic(real).mean()
            training.evaluate(data_generator, fixed_noise, c_loss.item(), g_loss.item())
    return training.finish(data_generator, torch.randn(16384, latent_dim))


def plot_estimate(training: Training) -> Figure:
    """Plots the critic's estimate and the measured distance, by epoch."""
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    epochs, losses, _, distances = zip(*training.history, strict=True)
    estimates = [-loss for loss in losses]
    axes.plot(epochs, distances, color=common.REAL, label="measured")
    axes.plot(epochs, estimates, color=common.GENERATED, label="estimated by the critic")
    axes.set(xlabel="epoch", ylabel="distance")
    axes.legend()
    return figure


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
    cli.save_picture(options, "estimate.png", plot_estimate(training))
    if options.animate:
        cli.save_picture(options, "training.gif", common.animate(training, draw))
    return cli.report(options, training)


if __name__ == "__main__":
    sys.exit(main())
