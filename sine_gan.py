# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A GAN that learns a sine: points on y = sin(x), x from -5 to 5.

The generator turns normal noise (2 numbers) into a point (x, y). It never sees the curve: it learns
only from how well its points fool the discriminator, which tries to tell them from real ones.

    python sine_gan.py                     train, and save in outputs/sine
    python sine_gan.py --generate 1000     points of the saved generator, as CSV
"""

import copy
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import common
from common import FourierFeatures, Training

X_MIN, X_MAX = -5.0, 5.0

LATENT_DIM = 2
EPOCHS, PATIENCE, COOLING = 60, 3, 20  # the last in which the learning rate falls
BATCHES_PER_EPOCH, BATCH_SIZE = 45, 256
LEARNING_RATE = 0.004  # the generator's; the discriminator, which must keep up, has more
BETAS = (0.0, 0.95)  # no momentum: the two would swing around each other
AVERAGING = 0.01  # share of the newest weights in the averaged generator
PENALTY = 0.3  # on the discriminator's slope: more blurs clusters, less distorts their shares
NOISE = 0.5  # deviations, on the discriminator's points at first (Sonderby et al. 2016)
REACH = 3**0.5  # deviations: as far as the generator goes at first, and all but rare points


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` points (n, 2) on the curve, x uniform."""
    x = X_MIN + (X_MAX - X_MIN) * torch.rand(n, generator=generator)
    return torch.stack([x, x.sin()], dim=1)


def layers(inputs: int, width: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    """Three hidden layers: (n, inputs) -> (n, outputs)."""
    hidden: list[nn.Module] = []
    for size in (inputs, width, width):
        hidden += [nn.Linear(size, width), activation]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


class Generator(nn.Module):
    """Standard normal noise (n, LATENT_DIM) to standardised points (n, features).

    The noise is made uniform: its rare values, hardly trained, would become stray points. At first
    it passes almost unchanged, spread as widely as the data, so that all of them are within reach.
    """

    def __init__(self, features: int = 2) -> None:
        super().__init__()
        hidden = layers(7 * LATENT_DIM, 128, features, nn.ReLU())
        self.layers = nn.Sequential(FourierFeatures(), hidden)
        self.passing = nn.Linear(LATENT_DIM, features, bias=False)
        nn.init.eye_(self.passing.weight)

    def forward(self, noise: Tensor) -> Tensor:
        uniform = REACH * torch.erf(noise / 2**0.5)  # of mean 0 and deviation 1
        return self.passing(uniform) + self.layers(uniform)


def build_generator(features: int = 2) -> nn.Module:
    """Standard normal noise (n, LATENT_DIM) to standardised points (n, features)."""
    return Generator(features)


def build_discriminator(features: int = 2) -> nn.Module:
    """Standardised points (n, features) to logits (n, 1), above zero for "real"."""
    leaky = nn.LeakyReLU(0.1)  # or units may die while there is nothing to tell apart
    return nn.Sequential(FourierFeatures(), layers(7 * features, 64, 1, leaky))


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
    training = Training(data, seed, epochs, patience, batch_size, progress, COOLING, within=REACH)
    batch_size = batch_size or min(BATCH_SIZE, len(data))
    batches = common.Batches(training.real.to(device), batch_size)
    noises = common.even_noise(batch_size, LATENT_DIM, device)
    generator = build_generator(training.real.shape[1]).to(device)
    averaged = copy.deepcopy(generator)
    discriminator = build_discriminator(training.real.shape[1]).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    is_real = torch.ones(batch_size, 1, device=device)
    both = torch.cat([is_real, torch.zeros_like(is_real)])
    latents = torch.randn(1024, LATENT_DIM, device=device)

    for epoch in training:
        rate = lr * training.pace
        g_optimizer.param_groups[0]["lr"], d_optimizer.param_groups[0]["lr"] = rate, 1.5 * rate
        blur = NOISE * max(0, 1 - (epoch - 1) / 4)  # in which no cluster is out of reach
        for step, points, noise in zip(range(BATCHES_PER_EPOCH), batches, noises, strict=False):
            fakes = generator(noise)

            # Discriminator step: tell real points from generated ones
            punished = step % 4 == 0  # lazily (StyleGAN2, Karras et al. 2020), at the same weight
            rows = torch.cat([points, fakes.detach()])
            rows = (rows + blur * torch.randn_like(rows)).requires_grad_(punished)
            scores = discriminator(rows)
            d_loss = bce(scores, both)
            if punished:
                d_loss = d_loss + PENALTY * common.gradient_penalty(scores, rows)
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()

            # Generator step: fool the discriminator
            g_loss = bce(discriminator(fakes + blur * torch.randn_like(fakes)), is_real)
            g_optimizer.zero_grad()
            g_loss.backward(inputs=list(generator.parameters()))
            g_optimizer.step()
            common.move_towards(averaged, generator, AVERAGING)

        training.evaluate(averaged, latents, d_loss, g_loss, discriminator)
    return training.judged(averaged, torch.randn(16384, LATENT_DIM))


@common.reporting
def main(argv: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    parser.add_argument("--data", metavar="FILE", type=Path, help="learn points from a CSV file")
    options = parser.parse_args(argv)
    columns = real_samples(1).shape[1]

    if options.generate or options.interpolate:
        generator = common.load_model(options.out / "generator.pt", LATENT_DIM, columns)
        if options.generate:
            names = ["x", "y"] if columns == 2 else [f"x{i + 1}" for i in range(columns)]
            common.write_csv(common.generate(generator, LATENT_DIM, options), ",".join(names))
        if options.interpolate:
            random = common.stream("walk", options.seed)
            points = generator(torch.randn(2048, LATENT_DIM, generator=random))
            path = generator(common.walk(options.interpolate, LATENT_DIM, generator=random))
            with common.results(options.out, sys.stderr if options.generate else None) as folder:
                common.save_picture(folder / "interpolation.png", common.plot_path, points, path)
        return 0

    own = real_samples(2048, common.stream("data", options.seed))
    data = common.read_numbers(options.data, columns) if options.data else own
    with common.results(options.out) as folder, common.stop_gently():
        training = train(data, **common.training_settings(options))
        common.save_model(folder, "generator", training.generator, LATENT_DIM)
        common.save_history(folder, training)
        shown = training.samples[:2048], training.history, training.best_epoch
        common.save_picture(folder / "samples.png", common.plot_points, data, *shown)
        if options.animate:
            common.save_picture(folder / "training.gif", common.animate_points, data, training.film)
    return common.conclude(training, options)


if __name__ == "__main__":
    sys.exit(main())
