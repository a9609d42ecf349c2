# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A GAN that learns a sine: points on y = sin(x), x from -5 to 5.

The generator maps two normal random numbers to a point (x, y). It never sees the curve: it learns
only from how well its points fool the discriminator, which tries to tell them from real ones.

    python sine_gan.py                     train, and save in outputs/sine
    python sine_gan.py --generate 1000     points of the saved generator, as CSV
"""

import copy
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import common
from common import Training, fourier_mlp

X_MIN, X_MAX = -5.0, 5.0

LATENT_DIM = 2
EPOCHS, PATIENCE, COOLDOWN = 60, 3, 20  # the learning rate decays over COOLDOWN epochs
BATCHES_PER_EPOCH, BATCH_SIZE = 45, 256
LEARNING_RATE, BETAS = 0.004, (0.0, 0.95)  # beta1 = 0: with momentum the two networks oscillate
EMA_DECAY = 0.99  # of the moving average of the weights
PENALTY = 0.3  # weight of the gradient penalty: higher blurs clusters, lower distorts their sizes
MAX_STD = 3**0.5  # where uniform noise of deviation 1 ends; data are scaled to fit


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` points (n, 2) on the curve, x uniform."""
    x = X_MIN + (X_MAX - X_MIN) * torch.rand(n, generator=generator)
    return torch.stack([x, x.sin()], dim=1)


class Generator(nn.Module):
    """Standard normal noise (n, LATENT_DIM) to standardised points (n, features).

    Uniform noise has no rarely trained tails, which would become stray points. A skip connection
    makes the initial output as wide as the data.
    """

    def __init__(self, features: int = 2) -> None:
        super().__init__()
        self.layers = fourier_mlp(LATENT_DIM, 128, features, nn.ReLU())
        self.skip = nn.Linear(LATENT_DIM, features, bias=False)
        nn.init.eye_(self.skip.weight)

    def forward(self, noise: Tensor) -> Tensor:
        uniform = MAX_STD * torch.erf(noise / 2**0.5)  # mean 0, standard deviation 1
        return self.skip(uniform) + self.layers(uniform)


build_generator = Generator


def build_discriminator(features: int = 2) -> nn.Module:
    """Standardised points (n, features) to logits (n, 1), above zero for "real"."""
    return fourier_mlp(features, 64, 1, nn.LeakyReLU(0.1))  # ReLU units could die early


@common.torch_defaults(threads=1)
def train(
    data: Tensor, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = True,
    epochs: int = EPOCHS, patience: int = PATIENCE, batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> Training:  # fmt: skip
    """Learn to generate rows like those of `data` (n, features); ValueError if that fails."""
    device = common.choose_device(device)
    training = Training(
        data, seed=seed, epochs=epochs, patience=patience, batch_size=batch_size,
        progress=progress, cooldown=COOLDOWN, max_std=MAX_STD,
    )  # fmt: skip
    rows, features = training.train_rows.to(device), training.train_rows.shape[1]
    batch_size = batch_size or min(BATCH_SIZE, len(rows))
    batches = common.Batches(rows, batch_size)
    noise_batches = common.sobol_noise(batch_size, LATENT_DIM, device)
    generator = build_generator(features).to(device)
    ema_generator = copy.deepcopy(generator)
    discriminator = build_discriminator(features).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 1, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    fixed_noise = torch.randn(1024, LATENT_DIM, device=device)

    @common.recorded(device)  # as a CUDA graph, on a GPU
    def step(points: Tensor, noise: Tensor, *, apply_penalty: bool) -> tuple[Tensor, Tensor]:
        fakes = generator(noise)

        # Discriminator step: tell real points from generated ones
        seen = torch.cat([points, fakes.detach()]).requires_grad_(apply_penalty)
        scores = discriminator(seen)
        d_loss = bce(scores, labels)
        if apply_penalty:  # lazy regularization (Karras et al. 2020)
            d_loss = d_loss + PENALTY * common.gradient_penalty(scores, seen)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator
        g_loss = bce(discriminator(fakes), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))  # only its own gradients
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for _ in training.epochs():
            common.set_lr(lr * training.stopping.lr_factor, g_optimizer, d_optimizer)
            steps = zip(range(BATCHES_PER_EPOCH), batches, noise_batches, strict=False)
            for i, points, noise in steps:
                d_loss, g_loss = step(points, noise, apply_penalty=i % 4 == 0)
            training.evaluate(ema_generator, fixed_noise, d_loss, g_loss, discriminator)
    return training.finish(ema_generator, torch.randn(16384, LATENT_DIM))


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
        if options.animate:
            common.save_picture(folder / "training.gif", common.animate_points, training)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
