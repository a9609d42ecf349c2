# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A Wasserstein GAN that learns a ring of eight clusters, and whose loss says how far it is.

A critic takes the discriminator's place. Its score may rise by about 1 for a unit of distance, so
that the gap between the scores of real and generated points estimates how far apart they are
(Arjovsky et al. 2017). The loss of a plain GAN says nothing of the kind.

    python wgan.py                     train, and save in outputs/wgan
    python wgan.py --generate 1000     points of the saved generator, as CSV
"""

import copy
import math
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Adam

import common
from common import Evaluation, Figure, FourierFeatures, Training

CLUSTERS, RADIUS, DEVIATION = 8, 2.0, 0.05

LATENT_DIM = 2
EPOCHS, PATIENCE, COOLING = 60, 3, 20  # the last in which the learning rate falls
BATCHES_PER_EPOCH, BATCH_SIZE = 40, 256
CRITIC_STEPS = 2  # for each of the generator, so that the estimate keeps up
LEARNING_RATE, BETAS = 0.005, (0.0, 0.95)  # no momentum: the two would swing around each other
AVERAGING = 0.02  # share of the newest weights in the averaged generator
PENALTY = 0.2  # on slopes of the critic other than 1


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` points (n, 2) in eight round clusters on a ring, each as likely."""
    angle = 2 * math.pi / CLUSTERS * torch.randint(CLUSTERS, (n,), generator=generator)
    centres = RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)
    return centres + DEVIATION * torch.randn(n, 2, generator=generator)


def layers(inputs: int, width: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    """Sines and cosines, then three hidden layers: (n, inputs) -> (n, outputs)."""
    hidden: list[nn.Module] = []
    for size in (7 * inputs, width, width):
        hidden += [nn.Linear(size, width), activation]
    return nn.Sequential(FourierFeatures(), *hidden, nn.Linear(width, outputs))


class Uniform(nn.Module):
    """Normal noise to uniform, of mean 0 and deviation 1: rare values would become stray points."""

    def forward(self, noise: Tensor) -> Tensor:
        return 3**0.5 * torch.erf(noise / 2**0.5)


def build_generator(features: int = 2) -> nn.Module:
    """Standard normal noise (n, LATENT_DIM) to standardised points (n, features)."""
    return nn.Sequential(Uniform(), layers(LATENT_DIM, 128, features, nn.ReLU()))


def build_discriminator(features: int = 2) -> nn.Module:
    """The critic: standardised points (n, features) to scores (n, 1), higher for real ones."""
    return layers(features, 64, 1, nn.LeakyReLU(0.1))


def slope_penalty(critic: nn.Module, points: Tensor, fakes: Tensor) -> Tensor:
    """How far the critic's slope between both (n, features) is from 1 (Gulrajani et al. 2017)."""
    share = torch.rand_like(points[:, :1])
    between = (share * points + (1 - share) * fakes).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slopes.norm(dim=1) - 1).square().mean()


@common.torch_defaults(threads=1)
@common.stop_gently()
def train(
    data: Tensor,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
    epochs: int = EPOCHS,
    patience: int = PATIENCE,
    batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> Training:
    """Learn to generate rows like those of `data` (n, features); ValueError if that cannot be."""
    device = common.choose_device(device)
    training = Training(
        data, seed, epochs, patience, batch_size, progress, COOLING, within=math.inf
    )
    batch_size, features = batch_size or min(BATCH_SIZE, len(data)), training.real.shape[1]
    real = training.real.to(device)
    batches = common.Batches(real, batch_size)
    noises = common.even_noise(batch_size, LATENT_DIM, device)
    generator = build_generator(features).to(device)
    averaged = copy.deepcopy(generator)
    critic = build_discriminator(features).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    c_optimizer = Adam(critic.parameters(), lr, BETAS, fused=True)
    latents = torch.randn(1024, LATENT_DIM, device=device)

    for _ in training:
        for optimizer in (g_optimizer, c_optimizer):
            optimizer.param_groups[0]["lr"] = lr * training.pace
        for _ in range(BATCHES_PER_EPOCH):
            # Critic steps: score real points higher than generated ones
            for step, points, noise in zip(range(CRITIC_STEPS), batches, noises, strict=False):
                fakes = generator(noise).detach()
                c_loss = critic(fakes).mean() - critic(points).mean()
                if step == 0:
                    c_loss = c_loss + PENALTY * slope_penalty(critic, points, fakes)
                c_optimizer.zero_grad()
                c_loss.backward()
                c_optimizer.step()

            # Generator step: score higher
            g_loss = -critic(generator(next(noises))).mean()
            g_optimizer.zero_grad()
            g_loss.backward(inputs=list(generator.parameters()))
            g_optimizer.step()
            common.move_towards(averaged, generator, AVERAGING)

        with torch.no_grad():  # estimate for the averaged generator; the critic knew the raw one
            c_loss = critic(averaged(latents)).mean() - critic(real).mean()
        training.evaluate(averaged, latents, c_loss, g_loss)
    return training.judged(averaged, torch.randn(16384, LATENT_DIM))


def plot_estimate(history: list[Evaluation]) -> Figure:
    """The critic's estimate and the measured distance, by epoch."""
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="distance")
    epochs, losses, _, distances = zip(*history, strict=True)
    axes.plot(epochs, distances, color=common.REAL, label="measured")
    axes.plot(epochs, [-loss for loss in losses], color=common.GENERATED, label="by the critic")
    axes.legend()
    return figure


@common.reporting
def main(argv: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    parser.add_argument("--data", metavar="FILE", type=Path, help="learn points from a CSV file")
    options = parser.parse_args(argv)

    if options.generate or options.interpolate:
        generator = common.load_model(options.out / "generator.pt", LATENT_DIM, 2)
        if options.generate:
            common.write_csv(common.generate(generator, LATENT_DIM, options), "x,y")
        if options.interpolate:
            random = common.stream("walk", options.seed)
            points = generator(torch.randn(2048, LATENT_DIM, generator=random))
            path = generator(common.walk(options.interpolate, LATENT_DIM, generator=random))
            with common.results(options.out, sys.stderr if options.generate else None) as folder:
                common.save_picture(folder / "interpolation.png", common.plot_path, points, path)
        return 0

    own = real_samples(2048, common.stream("data", options.seed))
    data = common.read_numbers(options.data, 2) if options.data else own
    with common.results(options.out) as folder, common.stop_gently():
        training = train(data, **common.training_settings(options))
        common.save_model(folder, "generator", training.generator, LATENT_DIM)
        common.save_history(folder, training)
        shown = training.samples[:2048], training.history, training.best_epoch
        common.save_picture(folder / "samples.png", common.plot_points, data, *shown)
        common.save_picture(folder / "estimate.png", plot_estimate, training.history)
        if options.animate:
            common.save_picture(folder / "training.gif", common.animate_points, data, training.film)
    return common.conclude(training, options)


if __name__ == "__main__":
    sys.exit(main())
