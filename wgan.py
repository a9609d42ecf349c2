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
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Adam

import common
from common import Figure, Training, fourier_mlp

CLUSTERS, RADIUS, DEVIATION = 8, 2.0, 0.05

LATENT_DIM = 2
EPOCHS, PATIENCE, COOLDOWN = 60, 3, 20  # the learning rate decays over COOLDOWN epochs
BATCHES_PER_EPOCH, BATCH_SIZE = 40, 256
CRITIC_STEPS = 2  # per generator step, so that the estimate keeps up
LEARNING_RATE, BETAS = 0.005, (0.0, 0.95)  # beta1 = 0: with momentum the two networks oscillate
EMA_DECAY = 0.98  # of the moving average of the weights
PENALTY = 0.2  # on slopes of the critic other than 1


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` points (n, 2) in eight round clusters on a ring, each as likely."""
    angle = 2 * math.pi / CLUSTERS * torch.randint(CLUSTERS, (n,), generator=generator)
    centres = RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)
    return centres + DEVIATION * torch.randn(n, 2, generator=generator)


class Uniform(nn.Module):
    """Normal noise to uniform, of mean 0 and deviation 1: rare values would become stray points."""

    def forward(self, noise: Tensor) -> Tensor:
        return 3**0.5 * torch.erf(noise / 2**0.5)


def build_generator(features: int = 2) -> nn.Module:
    """Standard normal noise (n, LATENT_DIM) to standardised points (n, features)."""
    return nn.Sequential(Uniform(), fourier_mlp(LATENT_DIM, 128, features, nn.ReLU()))


def build_discriminator(features: int = 2) -> nn.Module:
    """The critic: standardised points (n, features) to scores (n, 1), higher for real ones."""
    return fourier_mlp(features, 64, 1, nn.LeakyReLU(0.1))


def slope_penalty(critic: nn.Module, points: Tensor, fakes: Tensor) -> Tensor:
    """The penalty of WGAN-GP, between real and generated rows (Gulrajani et al. 2017)."""
    share = torch.rand_like(points[:, :1])
    between = (share * points + (1 - share) * fakes).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slopes.norm(dim=1) - 1).square().mean()


@common.torch_defaults(threads=1)
def train(
    data: Tensor, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = True,
    epochs: int = EPOCHS, patience: int = PATIENCE, batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> Training:  # fmt: skip
    """Learn to generate rows like those of `data` (n, features); ValueError if that cannot be."""
    device = common.choose_device(device)
    training = Training(
        data, seed=seed, epochs=epochs, patience=patience, batch_size=batch_size,
        progress=progress, cooldown=COOLDOWN, max_std=math.inf,
    )  # fmt: skip
    real = training.train_rows.to(device)
    n, features = real.shape
    batch_size = batch_size or min(BATCH_SIZE, n)
    batches = common.Batches(real, batch_size)
    noise_batches = common.sobol_noise(batch_size, LATENT_DIM, device)
    generator = build_generator(features).to(device)
    ema_generator = copy.deepcopy(generator)
    critic = build_discriminator(features).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    c_optimizer = Adam(critic.parameters(), lr, BETAS, fused=True)
    fixed_noise = torch.randn(1024, LATENT_DIM, device=device)

    @common.recorded(device)  # as a CUDA graph, on a GPU
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

    @common.recorded(device)  # as a CUDA graph, on a GPU
    def generator_step(noise: Tensor) -> Tensor:
        """Make generated points score higher."""
        g_loss = -critic(generator(noise)).mean()
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))  # only its own gradients
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return g_loss.detach()

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for _ in training.epochs():
            common.set_lr(lr * training.stopping.lr_factor, g_optimizer, c_optimizer)
            for _ in range(BATCHES_PER_EPOCH):
                steps = zip(range(CRITIC_STEPS), batches, noise_batches, strict=False)
                for i, points, noise in steps:
                    critic_step(points, noise, apply_penalty=i == 0)
                g_loss = generator_step(next(noise_batches))
            with torch.no_grad():  # with the averaged generator, which the critic has not seen
                c_loss = critic(ema_generator(fixed_noise)).mean() - critic(real).mean()
            training.evaluate(ema_generator, fixed_noise, c_loss, g_loss)
    return training.finish(ema_generator, torch.randn(16384, LATENT_DIM))


def plot_estimate(training: Training) -> Figure:
    """The critic's estimate and the measured distance, by epoch."""
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="distance")
    epochs, losses, _, distances = zip(*training.history, strict=True)
    axes.plot(epochs, distances, color=common.REAL, label="measured")
    axes.plot(epochs, [-loss for loss in losses], color=common.GENERATED, label="by the critic")
    axes.legend()
    return figure


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    parser.add_argument("--data", metavar="FILE", type=Path, help="train on points of a CSV file")
    options = parser.parse_args(argv)
    if options.generate or options.interpolate:
        return common.use_generator(options, LATENT_DIM, ["x", "y"])

    data = real_samples(2048, common.stream("data", options.seed))
    if options.data:
        data = common.read_numbers(options.data, columns=2)
    with common.output_folder(options.out) as folder:
        training = train(data, **parser.settings(options))
        common.save(folder, training, LATENT_DIM, generator=training.generator)
        common.save_picture(folder / "samples.png", common.plot_points, training)
        common.save_picture(folder / "estimate.png", plot_estimate, training)
        if options.animate:
            common.save_picture(folder / "training.gif", common.animate_points, training)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
